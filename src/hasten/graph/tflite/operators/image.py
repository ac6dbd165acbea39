"""Images: padded, resized, and rearranged in blocks."""

from __future__ import annotations

import numpy as np

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS"]

_ORDER = layout.channels_second(4)


def _pad(op: Operator, to: Builder) -> None:
    """With zeros, real ones where it is quantized, or with the value that PADV2 has."""
    data = op.input(0)
    perm = to.perm(data)
    amounts = _amounts(op, to)
    begins, ends = (layout.apply(perm, [pair[at] for pair in amounts]) for at in (0, 1))
    dtype = to.dtype(data)
    value = to.read(op.input(2)) if op.kind == "PADV2" else to.number(0, dtype)
    if op.kind == "PADV2" and to.rank(op.input(2)):
        value = to.emit("Reshape", [value, to.number([], np.int64)])
    made = to.emit("Pad", [to.read(data, perm), to.longs(*begins, *ends), value])
    to.bind(op.outputs[0], made, perm)


def _amounts(op: Operator, to: Builder) -> list[tuple[int, int]]:
    table = to.array(op.input(1), "padding")
    if table.shape != (to.rank(op.input(0)), 2) or table.dtype.kind != "i" or np.any(table < 0):
        raise Unsupported(f"has paddings {table.shape}")
    return [(int(one), int(other)) for one, other in table]


def _mirror_pad(op: Operator, to: Builder) -> None:
    """Mirrored at the edge's element, or between it and the next (SYMMETRIC), by its places."""
    data = op.input(0)
    name, perm = to.read(data, to.perm(data)), to.perm(data)
    symmetric = op.option("Mode") == 1
    for axis, (begin, end) in enumerate(_amounts(op, to)):
        size = to.tensor(data).declared[axis]
        if not begin and not end:
            continue
        if size is None or max(begin, end) > size - (not symmetric):
            raise Unsupported(f"mirrors {begin} and {end} of {size}")
        kept = np.arange(size)
        mirrored = np.pad(kept, (begin, end), "symmetric" if symmetric else "reflect")
        name = to.emit("Gather", [name, to.constant(mirrored)], axis=perm.index(axis))
    to.bind(op.outputs[0], name, perm)


def _resize(mode: str) -> Importing:
    """To a constant size; which points of the input are met follows two options."""

    def build(op: Operator, to: Builder) -> None:
        data = op.input(0)
        wanted = to.ints(op.input(1), "size")
        if to.rank(data) != len(_ORDER) or len(wanted) != 2 or min(wanted) < 1:
            raise Unsupported(f"resizes {to.rank(data)} axes to {wanted}")
        where, nearest = _points(op)
        rounding = {"nearest_mode": nearest} if mode == "nearest" else {}
        batch = to.tensor(data).declared[0]
        # Names of axes are new in opset 18; not every runtime reads them.
        free = batch is None
        if free or to.batch_is_free:
            size, axes = to.longs(*wanted), {"axes": [2, 3]}
        else:
            size, axes = to.longs(batch or 1, to.shape(data)[-1], *wanted), {}
        made = to.emit(
            "Resize",
            [to.read(data, _ORDER), "", "", size],
            mode=mode,
            coordinate_transformation_mode=where,
            **rounding,
            **axes,
        )
        to.bind(op.outputs[0], made, _ORDER)

    return build


def _points(op: Operator) -> tuple[str, str]:
    if op.option("AlignCorners", default=False):
        return "align_corners", "round_prefer_ceil"
    if op.option("HalfPixelCenters", default=False):
        return "half_pixel", "round_prefer_ceil"
    return "asymmetric", "floor"


def _depth_to_space(op: Operator, to: Builder) -> None:
    """Blocks of channels beside each other."""
    made = to.emit("DepthToSpace", [_image(op, to)], blocksize=_block(op), mode="DCR")
    to.bind(op.outputs[0], made, _ORDER)


def _space_to_depth(op: Operator, to: Builder) -> None:
    """Neighbours as channels."""
    made = to.emit("SpaceToDepth", [_image(op, to)], blocksize=_block(op))
    to.bind(op.outputs[0], made, _ORDER)


def _image(op: Operator, to: Builder) -> str:
    if to.rank(op.input(0)) != len(_ORDER):
        raise Unsupported(f"reads {to.rank(op.input(0))} axes")
    return to.read(op.input(0), _ORDER)


def _block(op: Operator) -> int:
    size: int = op.option("BlockSize")
    if size < 1:
        raise Unsupported(f"has blocks of {size}")
    return size


def _space_to_batch(op: Operator, to: Builder) -> None:
    """Padded, then each offset within a block as an image of its own."""
    data, out = op.input(0), op.outputs[0]
    block, (begins, ends), inner = _blocks(op, to, data)
    around = to.longs(0, *begins, *[0] * (len(inner) + 1), *ends, *[0] * len(inner))
    name = to.emit("Pad", [to.read(data), around, to.number(0, to.dtype(data))])
    padded = [
        size + begin + end
        for size, begin, end in zip(to.shape(data)[1:], begins, ends, strict=False)
    ]
    if any(size % step for size, step in zip(padded, block, strict=True)):
        raise Unsupported(f"divides {padded} in blocks of {block}")
    split = [
        part for size, step in zip(padded, block, strict=True) for part in (size // step, step)
    ]
    name = to.emit("Reshape", [name, to.longs(-1, *split, *inner)])
    count = len(block)
    whole, within = range(1, 2 * count, 2), range(2, 2 * count + 1, 2)
    name = to.emit("Transpose", [name], perm=[*within, 0, *whole, *_tail(count, inner)])
    to.bind(out, to.emit("Reshape", [name, to.longs(-1, *split[::2], *inner)]))


def _batch_to_space(op: Operator, to: Builder) -> None:
    """The way back: images beside each other, then cropped."""
    data, out = op.input(0), op.outputs[0]
    block, (begins, ends), inner = _blocks(op, to, data)
    sizes, count = to.shape(data)[1 : len(block) + 1], len(block)
    name = to.emit("Reshape", [to.read(data), to.longs(*block, -1, *sizes, *inner)])
    order = [part for at in range(count) for part in (count + 1 + at, at)]
    name = to.emit("Transpose", [name], perm=[count, *order, *_tail(count, inner)])
    wide = [size * step for size, step in zip(sizes, block, strict=True)]
    name = to.emit("Reshape", [name, to.longs(-1, *wide, *inner)])
    if any((*begins, *ends)):
        stops = [size - end for size, end in zip(wide, ends, strict=True)]
        axes = to.longs(*range(1, count + 1))
        name = to.emit("Slice", [name, to.longs(*begins), to.longs(*stops), axes])
    to.bind(out, name)


def _tail(count: int, inner: tuple[int, ...]) -> range:
    return range(2 * count + 1, 2 * count + 1 + len(inner))


def _blocks(
    op: Operator, to: Builder, data: int
) -> tuple[list[int], tuple[list[int], list[int]], tuple[int, ...]]:
    """Sizes of a block, what is padded or cropped, and the axes behind."""
    block = to.ints(op.input(1), "block")
    table = to.array(op.input(2), "padding")
    rank = to.rank(data)
    if not 0 < len(block) < rank or table.shape != (len(block), 2) or min(block) < 1:
        raise Unsupported(f"has blocks {block} of {rank} axes")
    if None in to.tensor(data).declared[1:]:
        raise Unsupported("rearranges an image of a free size")
    begins, ends = table[:, 0].tolist(), table[:, 1].tolist()
    if min(*begins, *ends) < 0:
        raise Unsupported(f"has paddings {begins} and {ends}")
    return block, (begins, ends), to.shape(data)[len(block) + 1 :]


OPERATORS: dict[str, Importing] = {
    "BATCH_TO_SPACE_ND": _batch_to_space,
    "DEPTH_TO_SPACE": _depth_to_space,
    "MIRROR_PAD": _mirror_pad,
    "PAD": _pad,
    "PADV2": _pad,
    "RESIZE_BILINEAR": _resize("linear"),
    "RESIZE_NEAREST_NEIGHBOR": _resize("nearest"),
    "SPACE_TO_BATCH_ND": _space_to_batch,
    "SPACE_TO_DEPTH": _space_to_depth,
}
