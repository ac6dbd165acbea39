"""Parts of a value: Slice and Split."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.shape import movable
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor

__all__ = ["OPERATORS", "Cut", "cut_out"]


@dataclass(frozen=True)
class Cut:
    """From ``start`` to before ``stop`` (-1: past the first element) along one axis."""

    start: int
    stop: int
    step: int = 1

    @property
    def size(self) -> int:
        """Number of elements that are left."""
        return len(range(self.start, self.stop, self.step))


def _slice(node: Node, to: Builder) -> None:
    """SLICE, or STRIDED_SLICE where there are steps."""
    value = movable(to, to.value(node.input(0)))
    starts, ends = _numbers(node, to, "starts", 1), _numbers(node, to, "ends", 2)
    axes = _numbers(node, to, "axes", 3) or list(range(len(starts)))
    steps = _numbers(node, to, "steps", 4) or [1] * len(starts)
    cuts = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        sized = slice(start, end, step).indices(value.shape[axis])
        cuts[axis % value.rank] = Cut(*sized)
    to.bind_value(node.outputs[0], cut_out(to, value, cuts))


def _numbers(node: Node, to: Builder, name: str, at: int) -> list[int]:
    given = node.attribute(name)  # before opset 10
    if given is not None:
        return list(given)
    return to.require(node.input(at), name).tolist() if node.input(at) else []


def cut_out(to: Builder, value: Value, cuts: dict[int, Cut]) -> Value:
    """The value, cut along these of ONNX's axes."""
    stored = {layout.stored_axis(value.perm, axis): cut for axis, cut in cuts.items()}
    tensor = value.tensor
    shape = [stored[at].size if at in stored else size for at, size in enumerate(tensor.shape)]
    if tuple(shape) == tensor.shape and all(cut.step == 1 for cut in cuts.values()):
        return value
    if all(cut.step == 1 for cut in cuts.values()):
        made = _plain(to, tensor, stored, shape)
    else:
        made = _strided(to, tensor, stored, shape)
    return replace(value, tensor=made)


def _plain(to: Builder, tensor: Tensor, cuts: dict[int, Cut], shape: list[int]) -> Tensor:
    """A size of -1 reaches to the end, whatever that is: a batch stays free."""
    begins = [cuts[at].start if at in cuts else 0 for at in range(len(shape))]
    sizes = [
        cut.size if (cut := cuts.get(at)) is not None and cut.stop < size else -1
        for at, size in enumerate(tensor.shape)
    ]
    return to.emit("SLICE", [tensor, to.sizes(*begins), to.sizes(*sizes)], shape, like=tensor)


def _strided(to: Builder, tensor: Tensor, cuts: dict[int, Cut], shape: list[int]) -> Tensor:
    """A bit of a mask leaves an axis as it is, or lets a negative step reach its first element."""
    begins, ends, strides, begin_mask, end_mask = [], [], [], 0, 0
    for at, _ in enumerate(tensor.shape):
        cut = cuts.get(at, Cut(0, -1))
        begins.append(cut.start)
        ends.append(max(cut.stop, 0))
        strides.append(cut.step)
        if at not in cuts:
            begin_mask |= 1 << at
        if cut.stop < 0:
            end_mask |= 1 << at
    tables = [to.sizes(*begins), to.sizes(*ends), to.sizes(*strides)]
    return to.emit(
        "STRIDED_SLICE",
        [tensor, *tables],
        shape,
        like=tensor,
        beginMask=begin_mask,
        endMask=end_mask,
    )


def _split(node: Node, to: Builder) -> None:
    """SPLIT into equal parts, SPLIT_V into others."""
    value = movable(to, to.value(node.input(0)))
    axis = node.attribute("axis", 0) % value.rank
    sizes = [spec.shape[axis] for spec in node.specs]
    if value.dtype == np.bool_:
        _in_slices(node, to, value, axis)
        return
    at = layout.stored_axis(value.perm, axis)
    outputs = [_part(to, value.tensor, layout.apply(value.perm, spec.shape)) for spec in node.specs]
    where = to.constant(np.array(at, np.int32))
    if len(set(sizes)) == 1:
        to.emit_to("SPLIT", [where, value.tensor], outputs, numSplits=len(sizes))
    else:
        inputs = [value.tensor, to.sizes(*sizes), where]
        to.emit_to("SPLIT_V", inputs, outputs, numSplits=len(sizes))
    for name, tensor in zip(node.outputs, outputs, strict=True):
        to.bind_value(name, replace(value, tensor=tensor))


def _part(to: Builder, like: Tensor, shape: tuple[int, ...]) -> Tensor:
    made = Tensor(f"{to.source}/split", like.dtype, shape)
    made.quantization = like.quantization
    return made


def _in_slices(node: Node, to: Builder, value: Value, axis: int) -> None:
    """One cut for each output: there is no SPLIT of bool."""
    start = 0
    for name, spec in zip(node.outputs, node.specs, strict=True):
        stop = start + spec.shape[axis]
        to.bind_value(name, cut_out(to, value, {axis: Cut(start, stop)}))
        start = stop


OPERATORS: dict[str, Lowering] = {"Slice": _slice, "Split": _split}
