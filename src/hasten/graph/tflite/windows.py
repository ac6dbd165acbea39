"""Windows that slide over an image: TensorFlow Lite's SAME and VALID as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hasten.graph.tflite.refusal import Unsupported

__all__ = ["SAME", "padding", "transposed_padding"]

SAME, VALID = 0, 1


def padding(
    kind: int,
    sizes: Sequence[int | None],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> dict[str, Any]:
    """Attributes that say the padding; a free size leaves it to the runtime."""
    _require(kind, (*strides, *dilations))
    if kind == VALID:
        return {"pads": [0] * 2 * len(kernel)}
    begins, ends = [], []
    for size, length, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        if size is None:
            return {"auto_pad": "SAME_UPPER"}
        reach = (length - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        begins.append(total // 2)
        ends.append(total - total // 2)
    return {"pads": [*begins, *ends]}


def transposed_padding(
    kind: int,
    sizes: Sequence[int],
    out: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
) -> dict[str, Any]:
    """What a transposed convolution cuts off, so that its output has the size that is asked for."""
    _require(kind, strides)
    begins, ends, more = [], [], []
    for size, wanted, length, stride in zip(sizes, out, kernel, strides, strict=True):
        surplus = (size - 1) * stride + length - wanted
        begins.append(max(surplus, 0) // 2)
        ends.append(max(surplus, 0) - max(surplus, 0) // 2)
        more.append(max(-surplus, 0))
        if more[-1] >= stride:
            raise Unsupported(f"writes {wanted} of {size} with a stride of {stride}")
    return {"pads": [*begins, *ends], "output_padding": more}


def _require(kind: int, steps: Sequence[int]) -> None:
    if kind not in {SAME, VALID}:
        raise Unsupported(f"has padding {kind}")
    if min(steps) < 1:
        raise Unsupported(f"has strides or dilations {list(steps)}")
