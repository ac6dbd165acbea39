"""Values that are computed from constants and from shapes: sizes, axes, numbers of places."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.graph.operators import without_defaults
from hasten.graph.rows.node import Node

__all__ = ["Evaluator", "Values"]

#: Values for each number of rows.
Values = tuple[NDArray[Any], NDArray[Any]]

#: A value of more elements is not computed: what counts here are sizes and small tables.
_MOST_ELEMENTS = 2**20
#: As many elements are computed for one model in all.
_BUDGET = 2**26
#: Operators that move or compare what they are given, and so make no more than it.
_NO_LARGER = frozenset(
    """
    Abs Add And Cast Ceil Concat Constant Div Equal Floor Gather GatherND Greater GreaterOrEqual
    Identity Less LessOrEqual Max Min Mod Mul Neg Not Or Pow ReduceMax ReduceMin ReduceProd
    ReduceSum Reshape Sign Slice Split Sqrt Squeeze Sub Transpose Unsqueeze Where Xor CumSum
    ScatterND Trilu
    """.split()  # noqa: SIM905
)


class Evaluator:
    """Computes outputs of nodes for both numbers of rows, as long as its budget lasts."""

    def __init__(self) -> None:
        self._left = _BUDGET

    def outputs(self, node: Node) -> list[Values] | None:
        """Return the outputs of a node all of whose inputs are known, else None."""
        if node.domain:
            return None
        if node.proto.op_type in {"Shape", "Size"}:
            return _sizes(node)
        feeds: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for name, tensor in zip(node.proto.input, node.inputs, strict=True):
            if tensor is None:
                continue
            if tensor.values is None:
                return None
            for feed, value in zip(feeds, tensor.values, strict=True):
                feed[name] = value
        few, many = (self._computed(node, feed) for feed in feeds)
        if few is None or many is None:
            return None
        return list(zip(few, many, strict=True))

    def _computed(self, node: Node, feed: dict[str, Any]) -> list[NDArray[Any]] | None:
        from onnx.reference import ReferenceEvaluator

        size = _size(node, [feed[name] for name in node.proto.input if name])
        if size > min(_MOST_ELEMENTS, self._left):
            return None
        self._left -= int(size)
        try:
            # Some of its operators take no attribute that says what is the default anyway.
            plain = without_defaults(node.proto, node.opset)
            evaluator = ReferenceEvaluator(plain, opsets={"": node.opset})
            found = evaluator.run([name for name in node.proto.output if name], feed)
        except Exception:  # noqa: BLE001 - of any kind: its value is not known, only its shape
            return None
        return [np.asarray(array) for array in found]


def _sizes(node: Node) -> list[Values] | None:
    tensor = node.tensor(0)
    if tensor is None or tensor.shapes is None:
        return None
    few, many = tensor.shapes
    if node.proto.op_type == "Size":
        return [(np.array(_elements(few), np.int64), np.array(_elements(many), np.int64))]
    part = slice(node.attribute("start", 0), node.attribute("end", None))
    return [(np.array(few[part], np.int64), np.array(many[part], np.int64))]


def _elements(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _size(node: Node, values: list[NDArray[Any]]) -> float:
    """Bound the elements that a node makes or looks at; infinite for what is not computed."""
    given = float(sum(value.size for value in values))
    kind = node.proto.op_type
    if kind == "Constant" or (kind in _NO_LARGER and not _broadcasts(values)):
        return 1.0 + given
    if kind in _NO_LARGER:
        return _product(np.max(_padded([value.shape for value in values]), axis=0))
    if kind == "ConstantOfShape":
        return _product(values[0])
    if kind in {"Expand", "Tile"}:
        return max(1.0, values[0].size) * _product(values[1])
    if kind == "Range":
        start, limit, delta = (float(value.reshape(-1)[0]) for value in values)
        return abs((limit - start) / delta) if delta else float("inf")
    return float("inf")


def _broadcasts(values: list[NDArray[Any]]) -> bool:
    return len({value.shape for value in values}) > 1


def _padded(shapes: list[tuple[int, ...]]) -> NDArray[np.int64]:
    rank = max(len(shape) for shape in shapes)
    return np.array([[1] * (rank - len(shape)) + list(shape) for shape in shapes], np.int64)


def _product(shape: NDArray[Any]) -> float:
    return float(np.prod(np.abs(shape.astype(np.float64))))
