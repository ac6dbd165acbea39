"""What turns the pixels of an image into the numbers a model was trained on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec
import numpy as np

from hasten.errors import OptionError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hasten.graph import TensorSpec

__all__ = ["Preprocessing", "parse_preprocessing"]

Layout: TypeAlias = Literal["nchw", "nhwc"]
Colour: TypeAlias = Literal["rgb", "bgr", "gray"]

_WHERE = "--preprocess"
_CHANNELS: dict[str, int] = {"rgb": 3, "bgr": 3, "gray": 1}
_SIZE = re.compile(r"(\d+)x(\d+)")
_IMAGE_RANK = 4


class Preprocessing(msgspec.Struct, frozen=True):
    """From uint8 pixels to a float input: ``(pixels / 255 - mean) / std``, in a layout.

    ``size`` is (height, width); ``mean`` and ``std`` have one value a channel, in units of
    pixel / 255 as in torchvision. Raises OptionError for values that cannot be meant.

    >>> halves = Preprocessing((1, 1), mean=(0.5,), std=(0.5,), layout="nhwc", colour="gray")
    >>> halves.apply(np.array([[[[255]]]], np.uint8)).item()
    1.0
    """

    size: tuple[int, int]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    layout: Layout = "nchw"
    colour: Colour = "rgb"

    def __post_init__(self) -> None:
        _require_choice("layout", self.layout, ("nchw", "nhwc"))
        _require_choice("colour", self.colour, tuple(_CHANNELS))
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

    @property
    def channels(self) -> int:
        """Channels of one pixel: 3, or 1 for gray."""
        return _CHANNELS[self.colour]

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


def parse_preprocessing(text: str, spec: TensorSpec | None = None) -> Preprocessing:
    """Read ``size=HxW,mean=A:B:C,std=A:B:C,layout=nchw|nhwc,colour=rgb|bgr|gray``.

    Every key may be left out: size, layout and colour then follow from ``spec``, the model's
    input, mean is 0 and std is 1; one value stands for all channels. Raises OptionError for
    anything that cannot be read.

    >>> parse_preprocessing("size=32x48,mean=0.5,std=0.25").mean
    (0.5, 0.5, 0.5)
    """
    words = _words(text)
    layout = words.get("layout") or _layout_of(spec)
    colour = words.get("colour") or _colour_of(spec, layout)
    _require_choice("layout", layout, ("nchw", "nhwc"))
    _require_choice("colour", colour, tuple(_CHANNELS))
    mean, std = words.get("mean", (0.0,)), words.get("std", (1.0,))
    channels = _CHANNELS[colour]
    return Preprocessing(
        size=words.get("size") or _size_of(spec, layout),
        mean=mean * channels if len(mean) == 1 else mean,
        std=std * channels if len(std) == 1 else std,
        layout=layout,
        colour=colour,
    )


def _words(text: str) -> dict[str, Any]:
    """Read ``key=value,...`` with each value as what its key says."""
    words: dict[str, Any] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = word.partition("=")
        if key not in _READERS or not equals:
            near = get_close_matches(key, _READERS, n=1)
            raise OptionError(
                expected=f"key=value with a key of {', '.join(_READERS)}",
                got=repr(word),
                where=_WHERE,
                hint=f"did you mean '{near[0]}'?" if near and near[0] != key else "",
            )
        if key in words:
            raise OptionError(expected=f"'{key}' once", got=f"{key} twice", where=_WHERE)
        words[key] = _READERS[key](value)
    return words


def _read_size(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OptionError(
            expected="HEIGHTxWIDTH such as 224x224", got=repr(text), where=f"{_WHERE} size"
        )
    return int(match[1]), int(match[2])


def _read_numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(":"))
    except ValueError:
        raise OptionError(
            expected="numbers separated by ':' such as 0.485:0.456:0.406",
            got=repr(text),
            where=_WHERE,
        ) from None


_READERS: dict[str, Callable[[str], object]] = {
    "size": _read_size,
    "mean": _read_numbers,
    "std": _read_numbers,
    "layout": str,
    "colour": str,
}


def _layout_of(spec: TensorSpec | None) -> Layout:
    """Where the input has 1 or 3 channels; raw pixels (uint8) always come channels last."""
    if spec is None or len(spec.shape) != _IMAGE_RANK:
        return "nchw"
    first_is_channels = spec.shape[1] in (1, 3, None) and spec.dtype != "uint8"
    return "nchw" if first_is_channels or spec.shape[3] not in (1, 3) else "nhwc"


def _colour_of(spec: TensorSpec | None, layout: str) -> Colour:
    if spec is None or len(spec.shape) != _IMAGE_RANK:
        return "rgb"
    return "gray" if spec.shape[1 if layout == "nchw" else 3] == 1 else "rgb"


def _size_of(spec: TensorSpec | None, layout: str) -> tuple[int, int]:
    if spec is not None and len(spec.shape) == _IMAGE_RANK:
        height, width = spec.shape[2:] if layout == "nchw" else spec.shape[1:3]
        if height is not None and width is not None:
            return height, width
    raise OptionError(
        expected="size=HEIGHTxWIDTH",
        got="no size" if spec is None else f"an input of free size, {spec}",
        where=_WHERE,
    )


def _require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise OptionError(expected=" or ".join(choices), got=repr(value), where=f"{key}")
