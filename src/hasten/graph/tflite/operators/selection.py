"""Slices, gathers and scatters: some elements out of many, and back."""

from __future__ import annotations

import numpy as np

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators.shape import sizes
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS"]

_END = 2**31 - 1


def _slice(op: Operator, to: Builder) -> None:
    """From a place on, so many of each axis; -1 is all that are left."""
    data = op.input(0)
    perm = to.perm(data)
    begin, size = to.ints(op.input(1), "begin"), to.ints(op.input(2), "size")
    if len(begin) != len(perm) or len(size) != len(perm) or min([0, *begin]) < 0:
        raise Unsupported(f"slices from {begin} on, {size}")
    ends = [_END if many < 0 else start + many for start, many in zip(begin, size, strict=True)]
    name = to.read(data, perm)
    made = _sliced(to, name, layout.apply(perm, begin), layout.apply(perm, ends))
    to.bind(op.outputs[0], made, perm)


def _sliced(
    to: Builder,
    name: str,
    starts: tuple[int, ...],
    ends: tuple[int, ...],
    steps: tuple[int, ...] | None = None,
) -> str:
    """Only axes of which something is left out are named."""
    steps = steps or (1,) * len(starts)
    axes = [
        at
        for at, (start, end, step) in enumerate(zip(starts, ends, steps, strict=True))
        if (start, end, step) != (0, _END, 1)
    ]
    if not axes:
        return name
    chosen = [to.longs(*(numbers[at] for at in axes)) for numbers in (starts, ends)]
    inputs = [name, *chosen, to.longs(*axes), to.longs(*(steps[at] for at in axes))]
    return to.emit("Slice", inputs)


def _strided_slice(op: Operator, to: Builder) -> None:
    """Python's indexing: masks say which numbers count, and which axes come and go."""
    data, out = op.input(0), op.outputs[0]
    rank = to.rank(data)
    begin, end, step = (to.ints(op.input(at), "bounds") for at in (1, 2, 3))
    if not len(begin) == len(end) == len(step) or 0 in step:
        raise Unsupported(f"slices from {begin} to {end} in steps of {step}")
    index = _Indexing(op, rank, len(begin))
    starts, ends, steps = [0] * rank, [_END] * rank, [1] * rank
    for at, axis in index.axes.items():
        bounds = index.bounds(at, begin[at], end[at], step[at])
        starts[axis], ends[axis], steps[axis] = bounds
    made = _sliced(to, to.read(data), tuple(starts), tuple(ends), tuple(steps))
    if index.dropped:
        made = to.emit("Squeeze", [made, to.longs(*index.dropped)])
    if index.added:
        made = to.emit("Unsqueeze", [made, to.longs(*index.added)])
    to.bind(out, made)


class _Indexing:
    """Which axis each entry of an index is for. Bits of the masks count entries, not axes."""

    def __init__(self, op: Operator, rank: int, entries: int) -> None:
        self._op = op
        new, ellipsis = (
            {at for at in range(entries) if op.option(mask) >> at & 1}
            for mask in ("NewAxisMask", "EllipsisMask")
        )
        new -= ellipsis
        if len(ellipsis) > 1:
            raise Unsupported("has two ellipses")
        self.axes: dict[int, int] = {}
        self.dropped: list[int] = []
        self.added: list[int] = []
        axis = written = 0
        for at in range(entries):
            if at in ellipsis:
                later = entries - at - 1 - sum(other > at for other in new)
                written += rank - axis - later
                axis = rank - later
                continue
            if at in new:
                self.added.append(written)
                written += 1
                continue
            if not 0 <= axis < rank:
                raise Unsupported(f"has more entries than {rank}")
            self.axes[at] = axis
            if self._is_set("ShrinkAxisMask", at):
                self.dropped.append(axis)
            else:
                written += 1
            axis += 1

    def _is_set(self, mask: str, at: int) -> bool:
        return bool(self._op.option(mask) >> at & 1)

    def bounds(self, at: int, begin: int, end: int, step: int) -> tuple[int, int, int]:
        """Start, end and step as ONNX has them: ends beyond the axis stand for all of it."""
        if self._is_set("ShrinkAxisMask", at):
            return begin, _END if begin == -1 else begin + 1, 1
        if self._op.option("Offset"):
            end += begin
        start = (0 if step > 0 else _END) if self._is_set("BeginMask", at) else begin
        if self._is_set("EndMask", at):
            end = _END if step > 0 else -_END
        return start, end, step


def _gather(op: Operator, to: Builder) -> None:
    """Along one axis; with batches, the place within its own batch."""
    data, indices, out = op.input(0), op.input(1), op.outputs[0]
    rank = to.rank(data)
    axis = to.axis(op.option("Axis", 0), rank)
    batches = op.option("BatchDims", 0)
    batches = batches + to.rank(indices) if batches < 0 else batches
    if batches == 0:
        to.bind(out, to.emit("Gather", [to.read(data), to.read(indices)], axis=axis))
        return
    if axis != batches:
        raise Unsupported(f"gathers along axis {axis} within {batches} axes of batches")
    places = to.emit("Unsqueeze", [_longs(to, indices), to.longs(-1)])
    to.bind(out, to.emit("GatherND", [to.read(data), places], batch_dims=batches))


def _embedding_lookup(op: Operator, to: Builder) -> None:
    """Rows of a table."""
    made = to.emit("Gather", [to.read(op.input(1)), to.read(op.input(0))], axis=0)
    to.bind(op.outputs[0], made)


def _longs(to: Builder, index: int) -> str:
    name = to.read(index)
    return name if to.dtype(index) == np.int64 else to.emit("Cast", [name], to=7)


def _gather_nd(op: Operator, to: Builder) -> None:
    """Each row of the indices is a place."""
    made = to.emit("GatherND", [to.read(op.input(0)), _longs(to, op.input(1))])
    to.bind(op.outputs[0], made)


def _scatter_nd(op: Operator, to: Builder) -> None:
    """Into zeros; what falls on one place is added up."""
    out = op.outputs[0]
    zeros = to.emit("Expand", [to.number(0, to.dtype(out)), sizes(to, op.input(2), "shape")])
    inputs = [zeros, _longs(to, op.input(0)), to.read(op.input(1))]
    to.bind(out, to.emit("ScatterND", inputs, reduction="add"))


def _reverse(op: Operator, to: Builder) -> None:
    """Back to front along axes."""
    data = op.input(0)
    perm = to.perm(data)
    axes = {to.axis(axis, len(perm)) for axis in to.ints(op.input(1), "axes")}
    back = [axis in axes for axis in perm]
    made = _sliced(
        to,
        to.read(data, perm),
        tuple(_END if one else 0 for one in back),
        tuple(-_END if one else _END for one in back),
        tuple(-1 if one else 1 for one in back),
    )
    to.bind(op.outputs[0], made, perm)


def _one_hot(op: Operator, to: Builder) -> None:
    """On where the index is the place; ONNX would count a negative one from the end."""
    indices, out = op.input(0), op.outputs[0]
    depth = to.ints(op.input(1), "depth")
    if len(depth) != 1 or not 0 <= depth[0] <= to.tensor(out).size:
        raise Unsupported(f"has a depth of {depth}")
    rank = to.rank(out)
    axis = to.axis(op.option("Axis", -1), rank)
    along = [1] * rank
    along[axis] = -1
    places = np.arange(depth[0], dtype=to.dtype(indices)).reshape(along)
    wide = to.emit("Unsqueeze", [to.read(indices), to.longs(axis)])
    found = to.emit("Equal", [wide, to.constant(places)])
    to.bind(out, to.emit("Where", [found, to.read(op.input(2)), to.read(op.input(3))]))


def _where(op: Operator, to: Builder) -> None:
    """The places of what is true, one a row."""
    found = to.emit("NonZero", [to.read(op.input(0))])
    to.bind(op.outputs[0], to.emit("Transpose", [found], perm=[1, 0]))


def _range(op: Operator, to: Builder) -> None:
    """Numbers from a start to a limit."""
    to.bind(op.outputs[0], to.emit("Range", [to.read(index) for index in op.inputs[:3]]))


OPERATORS: dict[str, Importing] = {
    "EMBEDDING_LOOKUP": _embedding_lookup,
    "GATHER": _gather,
    "GATHER_ND": _gather_nd,
    "ONE_HOT": _one_hot,
    "RANGE": _range,
    "REVERSE_V2": _reverse,
    "SCATTER_ND": _scatter_nd,
    "SLICE": _slice,
    "STRIDED_SLICE": _strided_slice,
    "WHERE": _where,
}
