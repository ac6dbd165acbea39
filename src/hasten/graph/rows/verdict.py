"""The verdict on a model: whether its rows are independent, and if not, which node mixes them."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Literal

import msgspec

from hasten.graph.rows.tensor import (
    ROW_COUNTS,
    Fixed,
    Joined,
    Rows,
    Sized,
    Tensor,
    Unclear,
)
from hasten.graph.rows.walk import Scope, walk

if TYPE_CHECKING:
    import onnx

    from hasten.graph.model import Model

__all__ = ["UNREAD", "RowVerdict", "row_verdict", "rows_of"]

#: What a free dimension is taken for that is not the batch: large enough for deep strides, small
#: enough for tables of positions.
_FREE = 64
#: A graph of more nodes, its functions put in their places, is not gone through.
_MOST_NODES = 50_000


class RowVerdict(msgspec.Struct, frozen=True):
    """What is known of the rows of a model's first axis.

    ``independent``: the answer for a row is the same alone and beside any others. ``mixed``: it is
    not, ``node`` is where it first depends on them and ``why`` says how. ``unclear``: the graph
    does not tell, for the reason ``why`` at ``node``.
    """

    rows: Literal["independent", "mixed", "unclear"]
    node: str = ""
    why: str = ""

    def __str__(self) -> str:
        if self.rows == "independent":
            return "rows are independent"
        said = "rows are mixed" if self.rows == "mixed" else "rows are not proven independent"
        where = f" (node {self.node})" if self.node else ""
        return f"{said}: {self.why}{where}"


INDEPENDENT = RowVerdict("independent")
#: Of a model whose graph cannot be read.
UNREAD = RowVerdict("unclear", why="there is no graph to read")


def row_verdict(model: onnx.ModelProto) -> RowVerdict:
    """Follow the rows of the inputs through a graph whose tensors have a free first axis.

    Weights are not read, so the model may have been loaded without its external data.
    """
    try:
        graph = _plain(model)
    except (RuntimeError, ValueError, RecursionError) as error:
        return RowVerdict("unclear", why=f"its functions cannot be put in place: {error}")
    if graph is None:
        return RowVerdict("unclear", why=f"it has more than {_MOST_NODES} nodes")
    scope = Scope()
    constants = {tensor.name for tensor in graph.graph.initializer}
    for value in graph.graph.input:
        if value.name not in constants:
            scope[value.name] = _input(value)
    domains = {("" if one.domain == "ai.onnx" else one.domain): one for one in graph.opset_import}
    try:
        walk(graph.graph, scope, {name: one.version for name, one in domains.items()})
    except RecursionError:
        return RowVerdict("unclear", why="its branches and loops are nested too deeply")
    return _of_outputs([(value.name, scope.find(value.name)) for value in graph.graph.output])


def rows_of(model: Model) -> RowVerdict:
    """Return what the graph of a model tells; UNREAD where it has none, as some .tflite files."""
    if model.format != "onnx" or not model.signature.batchable:
        return UNREAD
    return row_verdict(model.graph)


def _of_outputs(outputs: list[tuple[str, Tensor]]) -> RowVerdict:
    found = [_of_output(name, tensor) for name, tensor in outputs]
    mixed = [one for one in found if one.rows == "mixed"]
    unclear = [one for one in found if one.rows == "unclear"]
    return (mixed or unclear or [INDEPENDENT])[0]


def _of_output(name: str, tensor: Tensor) -> RowVerdict:
    flow = tensor.flow
    if isinstance(flow, Joined):
        return RowVerdict("mixed", flow.node, flow.why)
    if isinstance(flow, Unclear):
        return RowVerdict("unclear", flow.node, flow.why)
    if isinstance(flow, Sized):
        return RowVerdict("mixed", why=f"output {name} tells of the number of rows alone")
    if isinstance(flow, Fixed) or tensor.shapes is None:
        return RowVerdict("mixed", why=f"output {name} does not depend on the rows")
    first = tuple(shape[flow.axis] for shape in tensor.shapes)
    if flow != Rows(0) or first != ROW_COUNTS:
        return RowVerdict("mixed", why=f"output {name} has rows along another axis than the first")
    return INDEPENDENT


def _input(value: onnx.ValueInfoProto) -> Tensor:
    kind = value.type
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return Tensor(None, None, Unclear(value.name, "an input that is no tensor"))
    dims = kind.tensor_type.shape.dim
    rest = tuple(dim.dim_value if dim.HasField("dim_value") else _FREE for dim in dims[1:])
    if not dims or (dims[0].HasField("dim_value") and dims[0].dim_value > 0):
        fixed = tuple(dim.dim_value if dim.HasField("dim_value") else _FREE for dim in dims)
        return Tensor(kind, (fixed, fixed), Unclear(value.name, "its first axis is not free"))
    few, many = ROW_COUNTS
    return Tensor(kind, ((few, *rest), (many, *rest)), Rows(0))


def _plain(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """Put functions in the places where they are called; None for too large a graph."""
    from onnx import inliner

    if not model.functions:
        return model if len(model.graph.node) <= _MOST_NODES else None
    if _size(model) > _MOST_NODES:
        return None
    return inliner.inline_local_functions(model)


def _size(model: onnx.ModelProto) -> float:
    """Count the nodes there would be, functions in place; infinite where they call themselves."""
    calls = {
        (one.domain, one.name): Counter(_kind(node) for node in one.node) for one in model.functions
    }
    sizes: dict[tuple[str, str], float] = {}
    pending: set[tuple[str, str]] = set()

    def size(kind: tuple[str, str]) -> float:
        if kind not in calls:
            return 1.0
        if kind in pending:
            return math.inf
        if kind not in sizes:
            pending.add(kind)
            sizes[kind] = sum(size(inner) * count for inner, count in calls[kind].items())
            pending.discard(kind)
        return sizes[kind]

    return sum(size(_kind(node)) for node in model.graph.node)


def _kind(node: onnx.NodeProto) -> tuple[str, str]:
    return node.domain, node.op_type
