"""Windows and their padding: what ONNX gives in numbers, TFLite has as SAME and VALID alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hasten.runtimes.litert.lowering.builder import Builder
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["SAME", "VALID", "Window", "pad", "pad_tensor", "window_of"]

SAME, VALID = 0, 1


@dataclass(frozen=True)
class Window:
    """A sliding window over the spatial axes: all sizes per axis."""

    size: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    @property
    def reach(self) -> tuple[int, ...]:
        """Size of the kernel with its gaps."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def same(self) -> bool:
        """Whether this padding is what SAME means for these sizes."""
        for size, reach, stride, begin, end in zip(
            self.size, self.reach, self.strides, self.begins, self.ends, strict=True
        ):
            steps = -(-size // stride)
            total = max((steps - 1) * stride + reach - size, 0)
            if (begin, end) != (total // 2, total - total // 2):
                return False
        return True

    @property
    def valid(self) -> bool:
        """Whether there is no padding."""
        return not any((*self.begins, *self.ends))

    def with_height(self) -> Window:
        """The same over an image of height 1."""
        return Window(
            (1, *self.size),
            (1, *self.kernel),
            (1, *self.strides),
            (1, *self.dilations),
            (0, *self.begins),
            (0, *self.ends),
        )

    def unpadded(self) -> Window:
        """The same over what was padded before."""
        sizes = tuple(
            size + begin + end
            for size, begin, end in zip(self.size, self.begins, self.ends, strict=True)
        )
        none = (0,) * len(sizes)
        return replace(self, size=sizes, begins=none, ends=none)


def window_of(node: Node, size: Sequence[int], kernel: Sequence[int]) -> Window:
    """Read strides, dilations and padding of a convolution or a pooling.

    With ``ceil_mode`` the end is padded as far as the last window reaches.
    """
    rank = len(size)
    strides = tuple(node.attribute("strides", [1] * rank))
    dilations = tuple(node.attribute("dilations", [1] * rank))
    pads = node.attribute("pads", [0] * 2 * rank)
    begins, ends = tuple(pads[:rank]), tuple(pads[rank:])
    window = Window(tuple(size), tuple(kernel), strides, dilations, begins, ends)
    auto = node.attribute("auto_pad", "NOTSET")
    if auto == "VALID":
        none = (0,) * rank
        window = replace(window, begins=none, ends=none)
    elif auto in {"SAME_UPPER", "SAME_LOWER"}:
        window = _same(window, upper=auto == "SAME_UPPER")
    if any(pad < 0 for pad in (*window.begins, *window.ends)):
        raise Unsupported("its padding is negative")
    return window


def _same(window: Window, *, upper: bool) -> Window:
    begins, ends = [], []
    for size, reach, stride in zip(window.size, window.reach, window.strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if upper else more)
        ends.append(more if upper else less)
    return replace(window, begins=tuple(begins), ends=tuple(ends))


def pad(to: Builder, data: Tensor, window: Window) -> tuple[Tensor, int]:
    """The tensor, channels last, and SAME or VALID: padded with zeros where it is neither."""
    if window.valid:
        return data, VALID
    if window.same:
        return data, SAME
    return pad_tensor(to, data, _around(window)), VALID


def _around(window: Window) -> list[tuple[int, int]]:
    return [(0, 0), *zip(window.begins, window.ends, strict=True), (0, 0)]


def pad_tensor(
    to: Builder, data: Tensor, amounts: Sequence[tuple[int, int]], fill: float | None = None
) -> Tensor:
    """PAD with (real) zeros, PADV2 with another value; ``amounts`` are for each stored axis."""
    shape = [size + sum(amount) for size, amount in zip(data.shape, amounts, strict=True)]
    table = to.constant(np.array(amounts, np.int32))
    if fill is None:
        return to.emit("PAD", [data, table], shape, like=data)
    value = to.constant(np.array([fill], data.dtype), quantization=data.quantization)
    return to.emit("PADV2", [data, table, value], shape, like=data)
