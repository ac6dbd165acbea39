"""ConvTranspose: TRANSPOSE_CONV over all that the kernel reaches, cut to what is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import joined, ordered, strided
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.padding import SAME, VALID
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported
from hasten.runtimes.litert.lowering.weights import (
    bias,
    integer_form,
    real_weights,
    weights_of,
    widened,
)

__all__ = ["OPERATORS"]

#: Each group is an operator of its own in the file.
_MAX_GROUPS = 64


@dataclass(frozen=True)
class _Reach:
    """Sizes per spatial axis: of the input, of the kernel with its gaps, and of what is kept."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    begins: tuple[int, ...]
    wanted: tuple[int, ...]

    @property
    def same(self) -> bool:
        """Whether TFLite's SAME, which splits the surplus evenly, keeps just what is wanted."""
        for size, kernel, stride, begin, wanted in zip(
            self.size, self.kernel, self.strides, self.begins, self.wanted, strict=True
        ):
            surplus = (size - 1) * stride + kernel - wanted
            if size != -(-wanted // stride) or surplus < 0 or begin != surplus // 2:
                return False
        return True

    @property
    def whole(self) -> tuple[int, ...]:
        """All that the kernel reaches, and zeros up to what is wanted."""
        return tuple(
            max((size - 1) * stride + kernel, begin + wanted)
            for size, kernel, stride, begin, wanted in zip(
                self.size, self.kernel, self.strides, self.begins, self.wanted, strict=True
            )
        )

    def with_height(self) -> _Reach:
        """The same over an image of height 1."""
        return _Reach(
            (1, *self.size),
            (1, *self.kernel),
            (1, *self.strides),
            (0, *self.begins),
            (1, *self.wanted),
        )


def _conv_transpose(node: Node, to: Builder) -> None:
    """Groups one by one; gaps in the kernel are zeros in it."""
    value, weights = to.value(node.input(0)), weights_of(node, to)
    if not weights.constant:
        raise Unsupported("its weights are not constant")
    if value.rank not in {3, 4, 5}:
        raise Unsupported(f"convolves {value.rank - 2} dimensions")
    group = node.attribute("group", 1)
    if group > _MAX_GROUPS:
        raise Unsupported(f"has {group} groups: TFLite's kernel has none, {_MAX_GROUPS} are split")
    form = None if value.rank == 5 or group > 1 else integer_form(node, to, value, weights, 1)
    if form is None:
        value, weights = to.real(value), real_weights(to, weights)
    weights = _dilated(to, weights, node.attribute("dilations", [1] * (value.rank - 2)))
    reach = _reach(node, value.shape[2:], weights.shape[2:])
    last = layout.channels_last(value.rank)
    value = ordered(to, value, last)
    if value.rank == 3:
        flat = to.reshaped(value.tensor, (value.shape[0], 1, *value.tensor.shape[1:]))
        value = Value(flat, layout.channels_last(4), value.dtype)
        weights, reach = widened(to, weights, 2), reach.with_height()
    made = _of_groups(node, to, value, weights, reach, form=form)
    to.bind(node.outputs[0], to.reshaped(made.tensor, layout.apply(last, node.shape)), last)


def _reach(node: Node, size: tuple[int, ...], kernel: tuple[int, ...]) -> _Reach:
    """Padding at the beginning: given, or the smaller half of what is too much (ONNX's rule)."""
    rank = len(size)
    strides = tuple(node.attribute("strides", [1] * rank))
    extra = node.attribute("output_padding", [0] * rank)
    wanted = tuple(node.shape[2:])
    begins = tuple(node.attribute("pads", [0] * 2 * rank)[:rank])
    auto = node.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        begins = (0,) * rank
    elif auto != "NOTSET" or node.attribute("output_shape") is not None:
        # ONNX: the smaller half comes first for SAME_UPPER, the larger one otherwise.
        surplus = [
            stride * (one - 1) + more + reach - out
            for stride, one, more, reach, out in zip(
                strides, size, extra, kernel, wanted, strict=True
            )
        ]
        first = [one // 2 if auto == "SAME_UPPER" else one - one // 2 for one in surplus]
        begins = tuple(first)
    if any(begin < 0 for begin in begins):
        raise Unsupported("its padding is negative")
    return _Reach(size, kernel, strides, begins, wanted)


def _dilated(to: Builder, weights: Value, dilations: list[int]) -> Value:
    """The kernel with its gaps filled with zeros."""
    if all(gap == 1 for gap in dilations):
        return weights
    data = weights.tensor.elements
    found = weights.tensor.quantization
    sizes = [(size - 1) * gap + 1 for size, gap in zip(data.shape[2:], dilations, strict=True)]
    made = np.zeros((*data.shape[:2], *sizes), data.dtype)
    steps: tuple[slice, ...] = tuple(slice(None, None, gap) for gap in dilations)
    made[(slice(None), slice(None), *steps)] = data
    return Value(to.constant(made, weights.tensor.name, found), weights.perm, weights.dtype)


def _of_groups(
    node: Node, to: Builder, value: Value, weights: Value, reach: _Reach, *, form: Target | None
) -> Value:
    group = node.attribute("group", 1)
    # ONNX has [in, out / groups, ...], TFLite [out, ..., in] (and in 3D [..., out, in]).
    order = (1, 2, 3, 0) if value.rank == 4 else (2, 3, 4, 1, 0)
    kernel = to.stored(weights, order)
    out, width = weights.shape[1], value.shape[1] // group
    third = bias(node, to, value.tensor, kernel, out * group)
    if group == 1:
        return _one(to, value, kernel, third, reach, out=out, form=form)
    if third.data is None:
        raise Unsupported("has groups and a bias that is not constant")
    made = []
    for at in range(group):
        part = strided(to, value, 1, at * width, (at + 1) * width)
        rows = to.constant(kernel.elements[..., at * width : (at + 1) * width], kernel.name)
        offset = to.constant(third.elements[at * out : (at + 1) * out], third.name)
        made.append(_one(to, part, rows, offset, reach, out=out, form=None))
    return joined(to, made, 1)


def _one(
    to: Builder,
    value: Value,
    kernel: Tensor,
    offset: Tensor,
    reach: _Reach,
    *,
    out: int,
    form: Target | None,
) -> Value:
    sizes = reach.wanted if reach.same else reach.whole
    shape = (value.shape[0], *sizes, out)
    names = ("strideH", "strideW") if value.rank == 4 else ("strideD", "strideH", "strideW")
    made = to.emit(
        "TRANSPOSE_CONV" if value.rank == 4 else "CONV_3D_TRANSPOSE",
        [to.sizes(*shape), kernel, value.tensor, offset],
        shape,
        FLOAT if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
        padding=SAME if reach.same else VALID,
        options=dict(zip(names, reach.strides, strict=True)),
    )
    result = Value(made, value.perm, FLOAT)
    if reach.same:
        return result
    for axis, (begin, wanted) in enumerate(zip(reach.begins, reach.wanted, strict=True)):
        result = strided(to, result, axis + 2, begin, begin + wanted)
    return result


OPERATORS: dict[str, Lowering] = {"ConvTranspose": _conv_transpose}
