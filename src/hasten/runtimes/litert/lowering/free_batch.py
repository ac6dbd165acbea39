"""A free batch: what stays the same, and what scales, when a graph is lowered for two sizes.

TFLite files are written for one size of each axis, and an axis may be declared free beside that.
Whether the operators between allow it is found by lowering the graph twice, with a batch of 2 and
of 3: where both programs differ in nothing but sizes that grow with the batch, those axes are free,
and the file is written for a batch of 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hasten.runtimes.litert.lowering.program import Operator, Program, Tensor

__all__ = ["SIZES", "merge"]

#: Not 1, which broadcasts and hides what moves.
SIZES = (2, 3)


#: Inputs that are an output's shape. XNNPACK takes the batch of a transposed convolution from its
#: data; without XNNPACK the kernel compares, and refuses to run another batch than is written.
_SHAPE_INPUTS = {"RESHAPE": 1, "TRANSPOSE_CONV": 0}


class _Differs(Exception):  # noqa: N818 - it says why there is no free batch, and ends here
    pass


def merge(two: Program, three: Program) -> tuple[Program | None, str]:
    """Return the program with a free batch, or None and the reason why there can be none."""
    try:
        return _Merge().run(two, three), ""
    except _Differs as reason:
        return None, str(reason)


class _Merge:
    def __init__(self) -> None:
        self._made: dict[int, Tensor] = {}

    def run(self, two: Program, three: Program) -> Program:
        if len(two.operators) != len(three.operators):
            raise _Differs("other operators are needed for another batch")
        inputs = [self._tensor(*pair) for pair in zip(two.inputs, three.inputs, strict=True)]
        operators = [
            self._operator(one, other)
            for one, other in zip(two.operators, three.operators, strict=True)
        ]
        outputs = [self._tensor(*pair) for pair in zip(two.outputs, three.outputs, strict=True)]
        return Program(inputs, outputs, operators, list(two.notes))

    def _operator(self, one: Operator, other: Operator) -> Operator:
        where = f"{one.kind} of node {one.source}"
        if one.kind != other.kind or len(one.inputs) != len(other.inputs):
            raise _Differs(f"{where} becomes {other.kind}")
        made = Operator(one.kind, [], [], dict(one.options), one.source)
        reshape = one.kind == "RESHAPE"
        shape_at = _SHAPE_INPUTS.get(one.kind)
        for at, (left, right) in enumerate(zip(one.inputs, other.inputs, strict=True)):
            if left is None or right is None:
                made.inputs.append(None)
            elif left.data is not None and right.data is not None:
                same = self._constant(left, right, where, sizes=at == shape_at, free=reshape)
                made.inputs.append(same)
            else:
                made.inputs.append(self._tensor(left, right))
        made.outputs = [
            self._tensor(*pair) for pair in zip(one.outputs, other.outputs, strict=True)
        ]
        if reshape and made.inputs[1] is not None and made.inputs[1].data is not None:
            made.options["newShape"] = made.inputs[1].data.tolist()
        elif one.options != other.options:
            raise _Differs(f"{where} has other options for another batch")
        return made

    def _constant(
        self, one: Tensor, other: Tensor, where: str, *, sizes: bool, free: bool
    ) -> Tensor:
        left, right = one.elements, other.elements
        if left is right or np.array_equal(left, right):
            return one
        if sizes and left.shape == right.shape:
            differs = left != right
            if differs.sum() == 1:
                each = -1 if free else other.elements - left
                data = np.where(differs, each, left).astype(left.dtype)
                return Tensor(one.name, one.dtype, one.shape, data)
        raise _Differs(f"{where} needs other numbers for another batch")

    def _tensor(self, one: Tensor, other: Tensor) -> Tensor:
        if id(one) in self._made:
            return self._made[id(one)]
        if len(one.shape) != len(other.shape) or one.dtype != other.dtype:
            raise _Differs(f"{one.name} has another rank for another batch")
        shape, signature = _shapes(one.shape, other.shape, one.name)
        made = Tensor(one.name, one.dtype, shape, one.data, one.quantization)
        made.signature = signature if -1 in signature else None
        self._made[id(one)] = made
        return made


def _shapes(
    two: Sequence[int], three: Sequence[int], name: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape for a batch of 1, and the same with -1 where it grows with the batch."""
    shape, signature = [], []
    for left, right in zip(two, three, strict=True):
        if left == right:
            shape.append(left)
            signature.append(left)
            continue
        each = right - left
        if left != each * SIZES[0]:
            raise _Differs(f"{name} does not grow in proportion to the batch")
        shape.append(each)
        signature.append(-1)
    return tuple(shape), tuple(signature)
