"""Changed views of images that mean the same: made once a batch, so teacher and student see one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import OptionError
from hasten.graph import Signature, TensorSpec
from hasten.train.schedule import Augmentation

__all__ = ["augmented", "require_images"]

#: A shift is by at most this share of a side; the border is repeated.
_SHIFT = 1 / 8
_IMAGE_RANK = 4
_COLOURS = (1, 3)


def require_images(signature: Signature, augment: Sequence[Augmentation]) -> None:
    """Raise OptionError unless every input is an image that can be changed so."""
    for spec in signature.inputs if augment else ():
        if _spatial_axes(spec, spec.shape) is None:
            raise OptionError(
                expected="images, of rank 4 with 1 or 3 channels",
                got=str(spec),
                where="augment",
            )
        height, width = (spec.shape[axis] for axis in _spatial_axes(spec, spec.shape) or ())
        if "rotate_90" in augment and height != width:
            raise OptionError(expected="square images", got=str(spec), where="augment rotate_90")


def augmented(
    feed: Mapping[str, NDArray[Any]],
    signature: Signature,
    augment: Sequence[Augmentation],
    random: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """Return the feed with each image changed at random, each in its own way."""
    if not augment:
        return dict(feed)
    made = {}
    for spec in signature.inputs:
        images = feed[spec.name]
        axes = _spatial_axes(spec, images.shape)
        if axes is None:
            made[spec.name] = images
            continue
        # Per image: without its batch axis, so axes move one to the front.
        height, width = (axis - 1 for axis in axes)
        views = [_view(image, height, width, augment, random) for image in images]
        made[spec.name] = np.stack(views)
    return made


def _view(
    image: NDArray[Any],
    height: int,
    width: int,
    augment: Sequence[Augmentation],
    random: np.random.Generator,
) -> NDArray[Any]:
    if "flip_horizontal" in augment and random.integers(2):
        image = np.flip(image, width)
    if "flip_vertical" in augment and random.integers(2):
        image = np.flip(image, height)
    if "rotate_90" in augment:
        image = np.rot90(image, int(random.integers(4)), (height, width))
    if "shift" in augment:
        for axis in (height, width):
            most = int(image.shape[axis] * _SHIFT)
            image = _shifted(image, axis, int(random.integers(-most, most + 1)))
    return image


def _shifted(image: NDArray[Any], axis: int, by: int) -> NDArray[Any]:
    size = image.shape[axis]
    return image.take(np.clip(np.arange(size) - by, 0, size - 1), axis)


def _spatial_axes(spec: TensorSpec, shape: Sequence[int | None]) -> tuple[int, int] | None:
    """Return the axes of height and width; None for what is no image."""
    if len(shape) != _IMAGE_RANK:
        return None
    if shape[1] in _COLOURS and spec.dtype != "uint8":
        return 2, 3
    return (1, 2) if shape[3] in _COLOURS else None
