"""Pooling over windows, and over all of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import casted, compute, constant, reduced
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.padding import Window, window_of
from hasten.runtimes.litert.lowering.unsupported import Unsupported
from hasten.runtimes.litert.lowering.windows import AVERAGE, MAX, counts, pooled, steps

__all__ = ["OPERATORS", "requantizable"]

#: Plain integers of these are exact as floats.
_EXACT_AS_FLOATS = frozenset(np.dtype(kind) for kind in (np.int8, np.uint8))

_CODES = frozenset(np.dtype(kind) for kind in (np.int8, np.int16))


def requantizable(node: Node, to: Builder, value: Value) -> bool:
    """Whether a kernel that keeps its input's scale is exact enough for what follows.

    Rounded twice, a result stays within one step of the wanted scale where that is not finer than
    half of the operand's.
    """
    have = value.tensor.quantization
    if have is None or not have.per_tensor or value.tensor.dtype not in _CODES:
        return False
    wanted = to.targets.get(node.outputs[0])
    return wanted is None or 2 * wanted.quantization.scale.item() >= have.scale.item()


def _max_pool(node: Node, to: Builder) -> None:
    """The largest of each window; what pads it is below all."""
    if len(node.outputs) > 1 and node.outputs[1]:
        raise Unsupported("TFLite's pooling gives no indices")
    value = to.value(node.input(0))
    dtype, window = value.dtype, _window(node, value)
    codes = value.tensor.quantization is not None
    if codes and any(gap > 1 for gap in window.dilations):
        value, codes = to.real(value), False
    if value.dtype in _EXACT_AS_FLOATS and not codes:
        value = casted(to, value, FLOAT)
    if not codes and value.dtype != FLOAT:
        raise Unsupported(f"pools {value.dtype}")
    lowest = float(np.iinfo(value.tensor.dtype).min) if codes else -np.inf
    made = pooled(to, MAX, value, window, lowest)
    to.bind_value(node.outputs[0], made if codes else casted(to, made, dtype))


def _average_pool(node: Node, to: Builder) -> None:
    """The mean of each window, counting what pads it or not."""
    value = to.value(node.input(0))
    window = _window(node, value)
    counting = bool(node.attribute("count_include_pad", 0))
    divisors = counts(window, _declared_ends(node, window) if counting else None)
    alone = all(gap == 1 for gap in window.dilations) and (
        window.valid or (window.same and not counting)
    )
    if not (alone and requantizable(node, to, value)):
        value = to.real(value)
    if alone:
        made = pooled(to, AVERAGE, value, window, None)
    else:
        made = _corrected(to, pooled(to, AVERAGE, value, window, 0.0), window, divisors)
    to.bind_value(node.outputs[0], made)


def _corrected(to: Builder, made: Value, window: Window, divisors: Sequence[np.ndarray]) -> Value:
    """Means over whole windows, made means over some of their elements."""
    factors = np.ones((1, 1))
    for divisor, size in zip(divisors, window.kernel, strict=True):
        factors = np.multiply.outer(factors, size / divisor)
    if np.all(factors == 1.0):
        return made
    return compute(to, "MUL", made, constant(to, factors))


def _lp_pool(node: Node, to: Builder) -> None:
    """The p-th root of the sum of p-th powers: a mean, times the size of the window."""
    power = node.attribute("p", 2)
    value = to.real(to.value(node.input(0)))
    window = _window(node, value)
    made = pooled(to, AVERAGE, _raised(to, value, power), window, 0.0)
    made = compute(to, "MUL", made, float(np.prod(window.kernel)))
    to.bind_value(node.outputs[0], _root(to, made, power))


def _global_lp_pool(node: Node, to: Builder) -> None:
    """The same over all of the image."""
    power = node.attribute("p", 2)
    value = _raised(to, to.real(to.value(node.input(0))), power)
    made = reduced(to, "SUM", value, range(2, value.rank))
    to.bind_value(node.outputs[0], _root(to, made, power))


def _raised(to: Builder, value: Value, power: int) -> Value:
    if power == 2:
        return compute(to, "MUL", value, value)
    value = compute(to, "ABS", value)
    return value if power == 1 else compute(to, "POW", value, float(power))


def _root(to: Builder, value: Value, power: int) -> Value:
    if power == 2:
        return compute(to, "SQRT", value)
    return value if power == 1 else compute(to, "POW", value, 1.0 / power)


def _global_pool(kind: str) -> Lowering:
    """A reduction over the spatial axes; in integers a mean may write another scale."""

    def lower(node: Node, to: Builder) -> None:
        value = to.value(node.input(0))
        form = to.target(node.outputs[0], value) if kind == "MEAN" else None
        if form is None and (kind == "MEAN" or not requantizable(node, to, value)):
            value = to.real(value)
        perm = layout.channels_last(value.rank)
        tensor = to.stored(value, perm)
        made = to.emit(
            kind,
            [tensor, to.sizes(*range(1, value.rank - 1))],
            layout.apply(perm, node.shape),
            tensor.dtype if form is None else form.dtype,
            quantization=tensor.quantization if form is None else form.quantization,
            keepDims=True,
        )
        to.bind_value(node.outputs[0], Value(made, perm, node.dtype))

    return lower


def _window(node: Node, value: Value) -> Window:
    """The window, its ends padded (or not read) as far as the last step needs."""
    window = window_of(node, value.shape[2:], node.attribute("kernel_shape"))
    ends = []
    for axis, out in enumerate(_sizes(node, window)):
        last = (out - 1) * window.strides[axis] - window.begins[axis]
        ends.append(max(last + window.reach[axis] - window.size[axis], 0))
    made = replace(window, ends=tuple(ends))
    if steps(made) != node.shape[2:]:
        raise Unsupported(f"its window fits {list(steps(made))} times, not {list(node.shape[2:])}")
    return made


def _sizes(node: Node, window: Window) -> tuple[int, ...]:
    """Sizes of the result: no window starts beyond the image, which ONNX's inference overlooks."""
    sizes = tuple(
        min(out, -(-(size + begin) // stride))
        for out, size, begin, stride in zip(
            node.shape[2:], window.size, window.begins, window.strides, strict=True
        )
    )
    node.specs[0] = replace(node.specs[0], shape=(*node.shape[:2], *sizes))
    return sizes


def _declared_ends(node: Node, window: Window) -> Sequence[int]:
    """The padding that counts: what rounding up adds to it does not."""
    if node.attribute("auto_pad", "NOTSET") != "NOTSET":
        return window.ends
    rank = len(window.size)
    return tuple(node.attribute("pads", [0] * 2 * rank)[rank:])


OPERATORS: dict[str, Lowering] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool("MEAN"),
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_pool("REDUCE_MAX"),
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
}
