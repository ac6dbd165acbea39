"""Where an image stands in the picture that a model is given: resized, cropped or letterboxed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from hasten.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from hasten.data.preprocessing import Preprocessing

__all__ = ["Interpolation", "Framing", "framed"]

Interpolation: TypeAlias = Literal["nearest", "bilinear", "bicubic"]
#: Of a box less than this share is left by a crop: it is neither to be found nor missed.
_SEEN = 0.5


@dataclass(frozen=True)
class Framing:
    """An image of ``original`` size, resized to ``scaled``, whose corner stands at (top, left).

    Sizes are (height, width). What reaches out of ``size``, the picture, is cut off, and what the
    image does not cover is filled.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    top: int
    left: int
    size: tuple[int, int]

    def image(self, image: Image.Image, how: Interpolation, fill: int) -> NDArray[Any]:
        """Return the picture, [height, width] or [height, width, channels]."""
        from PIL import Image

        height, width = self.scaled
        methods = {
            "nearest": Image.Resampling.NEAREST,
            "bilinear": Image.Resampling.BILINEAR,
            "bicubic": Image.Resampling.BICUBIC,
        }
        values = np.asarray(image.resize((width, height), methods[how]))
        if self.scaled == self.size:
            return values
        picture = np.full((*self.size, *values.shape[2:]), fill, values.dtype)
        seen = _seen(self.top, height, self.size[0]), _seen(self.left, width, self.size[1])
        (rows, columns), (from_rows, from_columns) = zip(*seen, strict=True)
        picture[rows, columns] = values[from_rows, from_columns]
        return picture

    def boxes(
        self, boxes: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return boxes of the picture, (left, top, right, bottom), and two of [k].

        The first says which are seen at all, the second of which too little is seen to be judged.
        """
        ratios = [new / old for new, old in zip(self.scaled, self.original, strict=True)]
        moved = boxes * np.array([ratios[1], ratios[0]] * 2) + [self.left, self.top] * 2
        height, width = self.size
        inside = np.clip(moved, 0, [width, height] * 2)
        areas = [(one[:, 2:] - one[:, :2]).clip(0).prod(axis=1) for one in (moved, inside)]
        return inside, areas[1] > 0, areas[1] < _SEEN * areas[0]


def framed(preprocessing: Preprocessing, height: int, width: int, where: str) -> Framing:
    """Return how an image of this size becomes a picture; DataError for one that a crop exceeds.

    Sizes and offsets are those of torchvision's Resize and CenterCrop, and of the letterbox of
    Ultralytics' YOLO.
    """
    size, original = preprocessing.size, (height, width)
    if preprocessing.pad is not None:
        ratio = min(size[0] / height, size[1] / width)
        scaled = max(1, round(height * ratio)), max(1, round(width * ratio))
        top, left = (round((side - own) / 2 - 0.1) for side, own in zip(size, scaled, strict=True))
        return Framing(original, scaled, top, left, size)
    if not preprocessing.crop:
        return Framing(original, size, 0, 0, size)
    scaled = _resized(preprocessing.resize, height, width)
    if scaled[0] < size[0] or scaled[1] < size[1]:
        raise DataError(
            expected=f"an image of at least {size[0]}x{size[1]} to crop",
            got=f"{scaled[0]}x{scaled[1]}",
            where=where,
            hint="give resize=, the length of the shortest side before the crop",
        )
    top, left = (-round((own - side) / 2) for side, own in zip(size, scaled, strict=True))
    return Framing(original, scaled, top, left, size)


def _resized(resize: int | tuple[int, int] | None, height: int, width: int) -> tuple[int, int]:
    if resize is None:
        return height, width
    if isinstance(resize, tuple):
        return resize
    if height <= width:
        return resize, int(resize * width / height)
    return int(resize * height / width), resize


def _seen(start: int, length: int, side: int) -> tuple[slice, slice]:
    """Return where along a side something stands that begins there, and what of it is seen."""
    first, last = max(0, start), min(side, start + length)
    return slice(first, last), slice(first - start, last - start)
