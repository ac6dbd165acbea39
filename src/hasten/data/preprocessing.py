"""What turns the pixels of an image into the numbers a model was trained on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import msgspec
import numpy as np

from hasten.data.framing import Interpolation
from hasten.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["CHANNELS", "Colour", "Layout", "Preprocessing", "require_choice"]

Layout: TypeAlias = Literal["nchw", "nhwc"]
Colour: TypeAlias = Literal["rgb", "bgr", "gray"]

#: Channels of one pixel, by colour.
CHANNELS: dict[str, int] = {"rgb": 3, "bgr": 3, "gray": 1}
_BRIGHTEST = 255


class Preprocessing(msgspec.Struct, frozen=True):
    """From an image to pixels of a size, and from uint8 pixels to a float input.

    ``size`` is (height, width) of the picture. An image is resized to it, its sides as they come;
    with ``pad`` it is resized to fit in and the rest filled with that pixel (a letterbox); with
    ``crop`` the centre of this size is taken, after ``resize`` to a length of the shortest side or
    an exact (height, width). ``interpolation`` is of all resizing, with antialiasing as in Pillow.

    The input is ``(pixels / 255 - mean) / std``, in a layout: ``mean`` and ``std`` have one value a
    channel, in units of pixel / 255 as in torchvision. Raises OptionError for values that cannot be
    meant.

    >>> halves = Preprocessing((1, 1), mean=(0.5,), std=(0.5,), layout="nhwc", colour="gray")
    >>> halves.apply(np.array([[[[255]]]], np.uint8)).item()
    1.0
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: Layout = "nchw"
    colour: Colour = "rgb"
    resize: int | tuple[int, int] | None = None
    crop: bool = False
    pad: int | None = None
    interpolation: Interpolation = "bilinear"

    def __post_init__(self) -> None:
        require_choice("layout", self.layout, ("nchw", "nhwc"))
        require_choice("colour", self.colour, tuple(CHANNELS))
        if min(self.size) < 1:
            got = "x".join(str(side) for side in self.size)
            raise OptionError(expected="a positive height and width", got=got, where="size")
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise OptionError(
                    expected=f"{self.channels} values for colour {self.colour}",
                    got=str(len(values)),
                    where=key,
                )
            if not all(math.isfinite(value) for value in values):
                raise OptionError(expected="finite numbers", got=str(values), where=key)
        if 0 in self.std:
            raise OptionError(expected="values other than 0", got=str(self.std), where="std")
        self._require_geometry()

    def _require_geometry(self) -> None:
        require_choice("interpolation", self.interpolation, ("nearest", "bilinear", "bicubic"))
        if self.pad is not None and not 0 <= self.pad <= _BRIGHTEST:
            raise OptionError(expected="a pixel from 0 to 255", got=str(self.pad), where="pad")
        if self.pad is not None and (self.crop or self.resize is not None):
            raise OptionError(expected="pad, or resize and crop", got="both", where="pad")
        if self.resize is None:
            return
        if not self.crop:
            raise OptionError(
                expected="crop beside resize, for size alone says what an image is resized to",
                got="resize alone",
                where="resize",
            )
        sides = self.resize if isinstance(self.resize, tuple) else (self.resize,)
        if min(sides) < 1 or (len(sides) == 1 and sides[0] < min(self.size)):
            got = "x".join(str(side) for side in sides)
            raise OptionError(
                expected=f"a resize to no less than the size {self.size[0]}x{self.size[1]}",
                got=got,
                where="resize",
            )

    @property
    def channels(self) -> int:
        """Channels of one pixel: 3, or 1 for gray."""
        return CHANNELS[self.colour]

    @property
    def pixel_shape(self) -> tuple[int, int, int]:
        """Shape of one image before: height, width, channels."""
        return (*self.size, self.channels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape of one image after, without its batch axis."""
        return (self.channels, *self.size) if self.layout == "nchw" else self.pixel_shape

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Turn uint8 [n, height, width, channels] into C-contiguous float32 in the layout."""
        ordered = pixels.transpose(0, 3, 1, 2) if self.layout == "nchw" else pixels
        values = ordered.astype(np.float32, order="C")
        per_channel = (self.channels, 1, 1) if self.layout == "nchw" else (self.channels,)
        values /= np.float32(255)
        values -= np.asarray(self.mean, np.float32).reshape(per_channel)
        values /= np.asarray(self.std, np.float32).reshape(per_channel)
        return values


def require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise OptionError unless the value is one of the choices."""
    if value not in choices:
        raise OptionError(expected=" or ".join(choices), got=repr(value), where=f"{key}")
