"""Padding, and cropping where it is negative."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value, quantize
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import plain
from hasten.runtimes.litert.lowering.operators.indexing import picked
from hasten.runtimes.litert.lowering.operators.shape import movable
from hasten.runtimes.litert.lowering.operators.slicing import Cut, cut_out
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]

#: How much before and behind each of ONNX's axes.
_Amounts = dict[int, tuple[int, int]]


def _pad(node: Node, to: Builder) -> None:
    """PAD with a number; reflections and repetitions by index."""
    value = movable(to, to.value(node.input(0)))
    amounts = _amounts(node, to, value.rank)
    mode = node.attribute("mode", "constant")
    if mode == "constant":
        made = _filled(to, value, amounts, _fill(node, to))
    else:
        made = _by_index(to, value, amounts, mode)
    to.bind_value(node.outputs[0], made)


def _amounts(node: Node, to: Builder, rank: int) -> _Amounts:
    given = node.attribute("pads")  # before opset 11
    pads = list(given) if given is not None else to.require(node.input(1), "padding").tolist()
    axes = to.require(node.input(3), "axes").tolist() if node.input(3) else list(range(rank))
    half = len(pads) // 2
    return {
        axis % rank: (before, behind)
        for axis, before, behind in zip(axes, pads[:half], pads[half:], strict=True)
        if before or behind
    }


def _fill(node: Node, to: Builder) -> float:
    given = node.attribute("value")
    if given is not None:
        return float(given)
    return to.require(node.input(2), "value").item() if node.input(2) else 0.0


def _filled(to: Builder, value: Value, amounts: _Amounts, fill: float = 0.0) -> Value:
    """The value with a number around it, cut where an amount is negative."""
    cuts = {
        axis: Cut(max(-before, 0), value.shape[axis] - max(-behind, 0))
        for axis, (before, behind) in amounts.items()
        if before < 0 or behind < 0
    }
    value = cut_out(to, value, cuts)
    table = np.zeros((value.rank, 2), np.int32)
    for axis, (before, behind) in amounts.items():
        table[layout.stored_axis(value.perm, axis)] = max(before, 0), max(behind, 0)
    if not table.any():
        return value
    if fill and value.quantized and not _exact(value.tensor, fill):
        value = plain(to, value)
    return replace(value, tensor=_padded(to, value.tensor, table, fill))


def _padded(to: Builder, tensor: Tensor, table: np.ndarray, fill: float) -> Tensor:
    shape = tuple(np.array(tensor.shape) + table.sum(axis=1))
    groups = _merged(table)
    if tensor.shape and len(shape) > 5 and len(groups) <= 5:
        narrow = [int(np.prod([tensor.shape[at] for at in group])) for group in groups]
        first = np.array([table[group[0]] for group in groups], np.int32)
        made = _padded(to, to.reshaped(tensor, narrow), first, fill)
        return to.reshaped(made, shape)
    if not fill:
        return to.emit("PAD", [tensor, to.constant(table)], shape, like=tensor)
    form = tensor.quantization
    real = np.array([fill])
    code = real.astype(tensor.dtype) if form is None else quantize(real, form, tensor.dtype)
    constant = to.constant(code, quantization=form)
    return to.emit("PADV2", [tensor, to.constant(table), constant], shape, like=tensor)


def _merged(table: np.ndarray) -> list[list[int]]:
    """Adjacent axes that are not padded can be one: the kernel takes five."""
    groups: list[list[int]] = []
    for at, amounts in enumerate(table):
        if groups and not amounts.any() and not table[groups[-1][-1]].any():
            groups[-1].append(at)
        else:
            groups.append([at])
    return groups


def _exact(tensor: Tensor, fill: float) -> bool:
    """Whether a quantized tensor can hold this number."""
    form = tensor.quantization
    if form is None:
        return True
    code = fill / float(form.scale.item()) + int(form.zero_point.item())
    limits = np.iinfo(tensor.dtype)
    return code == round(code) and limits.min <= code <= limits.max


def _by_index(to: Builder, value: Value, amounts: _Amounts, mode: str) -> Value:
    if any(amount < 0 for pair in amounts.values() for amount in pair):
        raise Unsupported(f"pads by {mode} and crops at once")
    if mode == "reflect" and all(max(amounts[axis]) < value.shape[axis] for axis in amounts):
        return _mirrored(to, value, amounts)
    for axis, (before, behind) in amounts.items():
        order = np.arange(value.shape[axis], dtype=np.int32)
        padded = np.pad(order, (before, behind), mode=mode)  # type: ignore[call-overload]
        rows = Value(to.constant(padded), layout.identity(1), np.dtype(np.int32))
        value = picked(to, value, axis, rows)
    return value


def _mirrored(to: Builder, value: Value, amounts: _Amounts) -> Value:
    table = np.zeros((value.rank, 2), np.int32)
    for axis, pair in amounts.items():
        table[layout.stored_axis(value.perm, axis)] = pair
    tensor = value.tensor
    shape = tuple(np.array(tensor.shape) + table.sum(axis=1))
    made = to.emit("MIRROR_PAD", [tensor, to.constant(table)], shape, like=tensor, mode=_REFLECT)
    return replace(value, tensor=made)


_REFLECT = 0


def _center_crop_pad(node: Node, to: Builder) -> None:
    """Cut or padded with zeros on both sides, up to the size that is asked for."""
    value = movable(to, to.value(node.input(0)))
    sizes = to.require(node.input(1), "shape").tolist()
    axes = node.attribute("axes") or list(range(value.rank))
    amounts = {}
    for axis, want in zip(axes, sizes, strict=True):
        have = value.shape[axis]
        # What is odd is padded behind, and cut behind as well.
        before = (want - have) // 2 if want >= have else -((have - want) // 2)
        amounts[axis % value.rank] = (before, want - have - before)
    to.bind_value(node.outputs[0], _filled(to, value, amounts))


OPERATORS: dict[str, Lowering] = {"CenterCropPad": _center_crop_pad, "Pad": _pad}
