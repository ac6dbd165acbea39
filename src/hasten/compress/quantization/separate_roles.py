"""One constant read in several roles becomes one for each, since each role is rounded otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.compress.quantization.rounding import channel_axis
from hasten.compress.quantization.writer_form import quantized_kinds
from hasten.graph import FLOAT

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Derivations

__all__ = ["separate_roles"]

#: Operators whose third input is rounded in the units of the two before it.
_BIASED = frozenset(
    {
        "BatchNormalization",
        "Conv",
        "ConvTranspose",
        "Gemm",
        "InstanceNormalization",
        "LayerNormalization",
    }
)


def separate_roles(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, Derivations]:
    """Return the graph with a constant of its own for each role in which one is rounded.

    A matrix has scales along one axis as it is and along the other where it is transposed, and one
    scale as a table that is looked up; in int8 two are still half of what one was. A bias has the
    scale of its node's input: each node has its own. With the graph comes how each copy is made of
    the first. Where every constant has one role the graph is returned itself.
    """
    from onnx import helper

    floats = {one.name: one for one in graph.graph.initializer if one.data_type == FLOAT}
    separated = type(graph)()
    separated.CopyFrom(graph)
    kinds = quantized_kinds()
    taken = {name for node in graph.graph.node for name in (*node.input, *node.output)}
    roles: dict[str, dict[str, str]] = {}
    copies: Derivations = {}
    for number, node in enumerate(separated.graph.node):
        for at, name in enumerate(node.input):
            if name not in floats:
                continue
            known = roles.setdefault(name, {})
            role = _role(node, at, number) if node.op_type in kinds else "float"
            if role not in known:
                known[role] = _free(f"{name}/{len(known)}", taken) if known else name
            node.input[at] = known[role]
    for name, known in roles.items():
        for copy in list(known.values())[1:]:
            copies[copy] = [helper.make_node("Identity", [name], [copy])]
            separated.graph.initializer.append(floats[name])
            separated.graph.initializer[-1].name = copy
    return (separated, copies) if copies else (graph, {})


def _free(name: str, taken: set[str]) -> str:
    """Return the name, longer where a tensor has it already, and take it."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _role(node: onnx.NodeProto, at: int, number: int) -> str:
    """Say as what an input is rounded."""
    if at == 2 and node.op_type in _BIASED:  # noqa: PLR2004 - the third input
        return f"bias {number}"
    axis = channel_axis(node)
    if at != 1 or axis is None:
        return "constant"
    return f"weight {1 if node.op_type == 'MatMul' else axis}"
