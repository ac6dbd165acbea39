"""One range for what a Concat joins: where scales differ, a runtime rescales each part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from hasten.compress.quantization.calibration import Range

if TYPE_CHECKING:
    import onnx

__all__ = ["shared_ranges"]

#: What the QDQ writer gives the scale of its input.
_PASSING = frozenset(
    {"AveragePool", "Flatten", "MaxPool", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)


def shared_ranges(
    graph: onnx.ModelProto, ranges: Mapping[str, Range], bounds: Mapping[str, Range]
) -> dict[str, Range]:
    """Return the ranges, those of a Concat's inputs and output widened to the union of them.

    Also through pools and reshapes before it. An input that something else reads, or that is an
    output of the graph, keeps its range: there a wider one would cost accuracy. So does one whose
    range stands in for a Relu or Clip, where the union is wider than its ``bounds``.
    """
    readers = Counter(name for node in graph.graph.node for name in node.input)
    readers.update(output.name for output in graph.graph.output)
    group = {name: name for name in ranges}

    def leader(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    joined = set()
    for node in reversed(graph.graph.node):
        result = node.output[0] if node.output else ""
        if result not in ranges:
            continue
        if node.op_type == "Concat":
            joined.add(leader(result))
        elif node.op_type not in _PASSING or leader(result) not in joined:
            continue
        for name in node.input if node.op_type == "Concat" else node.input[:1]:
            if name in ranges and readers[name] == 1:
                group[leader(name)] = leader(result)
    unions: dict[str, Range] = {}
    for name, found in ranges.items():
        top = leader(name)
        union = unions.get(top, found)
        unions[top] = Range(min(union.low, found.low), max(union.high, found.high))
    return {
        name: union if _holds(bounds.get(name), union) else ranges[name]
        for name in ranges
        for union in (unions[leader(name)],)
    }


def _holds(bounds: Range | None, found: Range) -> bool:
    return bounds is None or (bounds.low <= found.low and found.high <= bounds.high)
