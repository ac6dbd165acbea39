"""Groups of nodes that exporters write for what is one operator, found before lowering."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from onnx import helper

from hasten.graph import constant_arrays

if TYPE_CHECKING:
    import onnx

__all__ = ["with_gelu"]


def with_gelu(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with ``x / 2 * (1 + erf(x / sqrt(2)))`` as one Gelu, whatever the opset.

    Exporters write the five nodes before opset 20, in several orders. What is in the way of a
    reader of its own stays; the given model is not changed.
    """
    found = _Gelus(proto.graph).found
    if not found:
        return proto
    made = type(proto)()
    made.CopyFrom(proto)
    gone = {name for group in found.values() for name in group[1]}
    nodes = []
    for node in proto.graph.node:
        if node.output[0] in found:
            operand = found[node.output[0]][0]
            nodes.append(helper.make_node("Gelu", [operand], node.output, name=node.name))
        elif node.output[0] not in gone:
            nodes.append(node)
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    return made


class _Gelus:
    """``found``: for the output of each group its operand, and the values that go with it."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._numbers = _numbers(graph)
        self._writers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._outputs = {output.name for output in graph.output}
        self.found: dict[str, tuple[str, set[str]]] = {}
        for node in graph.node:
            if node.op_type == "Erf":
                self._match(node)

    def _match(self, erf: onnx.NodeProto) -> None:
        inner = self._writers.get(erf.input[0])
        operand = self._scaled(inner, 0.5**0.5)
        plus = self._only_reader(erf.output[0], "Add")
        if inner is None or operand is None or plus is None or not self._adds_one(plus):
            return
        times = self._only_reader(plus.output[0], "Mul")
        if times is None:
            return
        gone = {inner.output[0], erf.output[0], plus.output[0]}
        other = next(name for name in times.input if name != plus.output[0])
        half = self._writers.get(other)
        if self._scaled(half, 0.5) == operand:
            self._keep(times, operand, gone | {other})
            return
        last = self._only_reader(times.output[0], "Mul")
        if last is None:
            return
        outer = next((name for name in last.input if name != times.output[0]), "")
        numbers = {name: self._numbers.get(name) for name in (other, outer)}
        if (other == operand and numbers[outer] == 0.5) or (
            outer == operand and numbers[other] == 0.5
        ):
            self._keep(last, operand, gone | {times.output[0]})

    def _keep(self, last: onnx.NodeProto, operand: str, gone: set[str]) -> None:
        within = {name for name in gone if len(self._readers[name]) == 1}
        self.found[last.output[0]] = (operand, within - self._outputs)

    def _scaled(self, node: onnx.NodeProto | None, factor: float) -> str | None:
        """What a node multiplies by this factor, or divides by one over it."""
        if node is None or node.op_type not in {"Mul", "Div"}:
            return None
        for at, name in enumerate(node.input):
            number = self._numbers.get(name)
            if number is None or (node.op_type == "Div" and at == 0) or number == 0:
                continue
            if abs((number if node.op_type == "Mul" else 1 / number) - factor) < _TOLERANCE:
                return str(node.input[1 - at])
        return None

    def _adds_one(self, node: onnx.NodeProto) -> bool:
        return any(self._numbers.get(name) == 1.0 for name in node.input)

    def _only_reader(self, name: str, op: str) -> onnx.NodeProto | None:
        readers = self._readers[name]
        alone = len(readers) == 1 and name not in self._outputs and readers[0].op_type == op
        return readers[0] if alone else None


#: Exporters round the root of two to five digits at least.
_TOLERANCE = 1e-5


def _numbers(graph: onnx.GraphProto) -> dict[str, float]:
    """Constants of one element."""
    return {
        name: float(array.item())
        for name, array in constant_arrays(graph).items()
        if array.size == 1 and array.ndim <= 1 and array.dtype.kind in "fiu"
    }
