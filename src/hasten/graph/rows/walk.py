"""Goes through a graph in its order, and follows the rows of its inputs from tensor to tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasten.graph.rows.control import CONTROL_FLOW, through_control_flow
from hasten.graph.rows.evaluate import Evaluator, Values
from hasten.graph.rows.node import Mixed, Node, Undecided
from hasten.graph.rows.rules import RULES, Shapes
from hasten.graph.rows.rules.axes import WHOLE
from hasten.graph.rows.tensor import (
    FIXED,
    SIZED,
    Fixed,
    Flow,
    Joined,
    Rows,
    Sized,
    Tensor,
    Unclear,
    known,
    split_rows,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["Scope", "walk"]

#: Constants of more elements are not read: they are weights, not sizes.
_MOST_ELEMENTS = 2**16
#: Inputs that say how and not what, so that the number of rows may be in them: the rules look.
_HOW: dict[str, frozenset[int]] = {
    "AffineGrid": frozenset({1}),
    "CenterCropPad": frozenset({1}),
    "ConstantOfShape": frozenset({0}),
    "Expand": frozenset({1}),
    "Gather": frozenset({1}),
    "GatherND": frozenset({1}),
    "Pad": frozenset({1, 3}),
    "Reshape": frozenset({1}),
    "Resize": frozenset({1, 2, 3}),
    "Slice": frozenset({1, 2, 3, 4}),
    "Split": frozenset({1}),
    "Tile": frozenset({1}),
    "Upsample": frozenset({1}),
}
_DRAWN = frozenset({("", "RandomNormal"), ("", "RandomUniform")})
#: With the number of rows as a value these change what a row becomes.
_ARITHMETIC = frozenset({"Add", "Div", "MatMul", "Max", "Min", "Mod", "Mul", "Pow", "Sub", "Gemm"})


class Scope:
    """Tensors by name: those of a graph, and of the graphs around it."""

    def __init__(self, around: Scope | None = None) -> None:
        self._around = around
        self.evaluator: Evaluator = Evaluator() if around is None else around.evaluator
        self._tensors: dict[str, Tensor] = {}

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def find(self, name: str) -> Tensor:
        """Return the tensor of this name; one of which nothing is known where there is none."""
        if name in self._tensors:
            return self._tensors[name]
        if self._around is not None:
            return self._around.find(name)
        return Tensor(None, None, Unclear(name, "nothing makes it"))


def walk(graph: onnx.GraphProto, scope: Scope, opsets: Mapping[str, int]) -> None:
    """Put every tensor of a graph into the scope; its inputs are there already."""
    for initializer in graph.initializer:
        scope[initializer.name] = _initializer(initializer)
    for sparse in graph.sparse_initializer:
        kind = _kind(sparse.values.data_type, sparse.dims)
        shape = tuple(sparse.dims)
        scope[sparse.values.name] = Tensor(kind, (shape, shape), FIXED)
    for proto in graph.node:
        inputs = [scope.find(name) if name else None for name in proto.input]
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        node = Node(proto, inputs, opsets.get(domain, 1))
        made = _through(node, scope, opsets)
        for name, tensor in zip(proto.output, made, strict=True):
            if name:
                scope[name] = tensor


def _initializer(proto: onnx.TensorProto) -> Tensor:
    from onnx import TensorProto, numpy_helper

    shape = tuple(proto.dims)
    kind = _kind(proto.data_type, proto.dims)
    large = int(np.prod(shape, dtype=np.float64)) > _MOST_ELEMENTS
    if large or proto.data_location == TensorProto.EXTERNAL:
        return Tensor(kind, (shape, shape), FIXED)
    value = numpy_helper.to_array(proto)
    return Tensor(kind, (shape, shape), FIXED, (value, value))


def _kind(data_type: int, dims: Sequence[int]) -> onnx.TypeProto:
    from onnx import helper

    return helper.make_tensor_type_proto(data_type, list(dims))


def _through(node: Node, scope: Scope, opsets: Mapping[str, int]) -> list[Tensor]:
    """Return what is known of each output of a node."""
    values = scope.evaluator.outputs(node)
    if values is not None:
        made = iter(known(_kind_of(value), value) for value in values)
        return [next(made) if name else _nothing() for name in node.proto.output]
    if not node.domain and node.proto.op_type in CONTROL_FLOW:
        return _through_bodies(node, scope, opsets)
    flow = _before_rules(node)
    try:
        inferred = node.inferred()
    except Undecided as reason:
        return _all(node, flow or node.unclear(str(reason)))
    if flow is not None:
        return [
            Tensor(kind, shapes, flow) if kind is not None else _nothing()
            for kind, shapes in inferred
        ]
    return _by_rule(node, inferred)


def _through_bodies(node: Node, scope: Scope, opsets: Mapping[str, int]) -> list[Tensor]:
    def through(graph: onnx.GraphProto, inputs: Sequence[Tensor]) -> list[Tensor]:
        inner = Scope(scope)
        for value, tensor in zip(graph.input, inputs, strict=True):
            inner[value.name] = tensor
        walk(graph, inner, opsets)
        return [inner.find(value.name) for value in graph.output]

    try:
        return through_control_flow(node, through)
    except Mixed as how:
        return _all(node, node.joined(str(how)))
    except Undecided as reason:
        return _all(node, _worst(node) or node.unclear(str(reason)))


def _by_rule(
    node: Node, made: Sequence[tuple[onnx.TypeProto | None, Shapes | None]]
) -> list[Tensor]:
    shapes = [one for _, one in made]
    rule = RULES.get((node.domain, node.proto.op_type))
    flows: Sequence[Flow]
    try:
        if node.all_fixed():
            flows = [FIXED] * len(made)
        elif rule is None:
            flows = [node.unclear("it is not known whether it keeps rows apart")] * len(made)
        elif not shapes or shapes[0] is None:
            flows = [node.unclear("a shape depends on data")] * len(made)
        else:
            flows = _each(rule(node, [one or shapes[0] for one in shapes]), len(made))
    except Undecided as reason:
        flows = [node.unclear(str(reason))] * len(made)
    return [
        Tensor(kind, shape, _checked(node, flow, shape)) if kind is not None else _nothing()
        for (kind, shape), flow in zip(made, flows, strict=True)
    ]


def _each(found: Flow | Sequence[Flow], count: int) -> Sequence[Flow]:
    """Return a flow for each output: one that is given alone holds for all."""
    if isinstance(found, Rows | Fixed | Sized | Joined | Unclear):
        return [found] * count
    return found


def _checked(node: Node, flow: Flow, shapes: Shapes | None) -> Flow:
    """Hold what a rule says against the shapes: sizes must grow with the rows just there."""
    if isinstance(flow, Rows):
        if shapes is None or not split_rows(shapes, flow):
            return node.unclear("sizes do not grow as rows do")
    elif isinstance(flow, Fixed) and (shapes is None or shapes[0] != shapes[1]):
        return SIZED if shapes is not None else node.unclear("a size depends on data")
    return flow


def _before_rules(node: Node) -> Flow | None:
    """Return what holds of all outputs whatever the operator's rule is; None where that decides."""
    kind = (node.domain, node.proto.op_type)
    has_rows = any(node.rows(at) is not None for at in range(len(node.inputs)))
    worst: Flow | None = _worst(node)
    if worst is None and kind in _DRAWN:
        worst = node.unclear("it draws numbers")
    if worst is None and kind in WHOLE and has_rows:
        worst = node.joined("looks at all rows at once")
    if worst is not None:
        return worst
    sized = _sized_values(node)
    if not sized:
        return None
    if not has_rows:
        return SIZED
    if node.proto.op_type in _ARITHMETIC:
        return node.joined("computes with the number of rows")
    return node.unclear("the number of rows is among its values")


def _sized_values(node: Node) -> list[int]:
    """Return the inputs that hold the number of rows as a value, and not to say how."""
    how = frozenset() if node.domain else _HOW.get(node.proto.op_type, frozenset())
    return [
        at
        for at, tensor in enumerate(node.inputs)
        if tensor is not None and isinstance(tensor.flow, Sized) and at not in how
    ]


def _worst(node: Node) -> Joined | Unclear | None:
    """Return the flow of an input that is mixed, or of which nothing is known."""
    flows = [tensor.flow for tensor in node.inputs if tensor is not None]
    mixed = next((flow for flow in flows if isinstance(flow, Joined)), None)
    return mixed or next((flow for flow in flows if isinstance(flow, Unclear)), None)


def _all(node: Node, flow: Flow) -> list[Tensor]:
    return [Tensor(None, None, flow) for _ in node.proto.output]


def _nothing() -> Tensor:
    return Tensor(None, None, FIXED)


def _kind_of(values: Values) -> onnx.TypeProto:
    from onnx import helper

    few, _ = values
    elements = 8 if few.dtype.kind in "OU" else helper.np_dtype_to_tensor_dtype(few.dtype)
    return helper.make_tensor_type_proto(elements, list(few.shape))
