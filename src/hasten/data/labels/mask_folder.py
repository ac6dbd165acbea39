"""Masks of a folder of images: a class for each pixel, as large as the image that it is of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.labels.labels import IGNORED, Labels
from hasten.data.labels.pictures import Pictures
from hasten.data.npy import open_npy, write_npy
from hasten.errors import DataError, foreign

__all__ = ["MASK_SUFFIXES", "read_masks"]

MASK_SUFFIXES = (".bmp", ".gif", ".png", ".tif", ".tiff")
_MODES = ("1", "L", "P", "I", "I;16")


def read_masks(folder: Path, pictures: Pictures, scratch: Path) -> tuple[Labels, list[str]]:
    """Read them into one array on disk; returns the labels and what was assumed.

    Class numbers are the values of gray images and the indices of those with a palette. 255 is not
    judged, unless 0 and 255 are all there are: then it is class 1. Masks go the way of their images
    with the nearest pixel, and what an image does not cover is not judged. Raises DataError for a
    mask of another size or mode, and where masks and images are not the same.
    """
    files = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in sorted(folder.rglob("*"))
        if file.suffix.lower() in MASK_SUFFIXES and not file.name.startswith(".")
    }
    found = pictures.in_order(files, str(folder))
    values: set[int] = set()
    for at, file in enumerate(found):
        values.update(np.unique(_read(file, pictures.size(at))).tolist())
    ones = values in ({0, IGNORED}, {IGNORED})
    dtype = np.dtype(np.uint8 if max(values) <= IGNORED else np.int32)
    path = scratch / "masks.npy"
    shape = (len(found), *pictures.preprocessing.size)
    write_npy(path, dtype, shape, _placed(found, pictures, dtype, ones=ones))
    labels = Labels.array("mask", open_npy(path, dtype.name), size=pictures.preprocessing.size)
    return labels, [f"masks hold 0 and {IGNORED} alone: {IGNORED} is class 1"] if ones else []


def _placed(
    files: list[Path], pictures: Pictures, dtype: np.dtype[Any], *, ones: bool
) -> Iterator[NDArray[Any]]:
    from PIL import Image

    for at, file in enumerate(files):
        mask = _read(file, pictures.size(at))
        if ones:
            mask = (mask == IGNORED).astype(np.uint8)
        # Modes that Pillow resizes without a change of values.
        image = Image.fromarray(mask.astype(np.uint8 if dtype == np.uint8 else np.int32))
        yield pictures.framing(at).image(image, "nearest", IGNORED).astype(dtype)


def _read(file: Path, size: tuple[int, int]) -> NDArray[np.int64]:
    from PIL import Image

    with (
        foreign(DataError, expected="a mask that can be decoded", where=str(file)),
        Image.open(file) as image,
    ):
        mode, values = image.mode, np.asarray(image)
    if mode not in _MODES:
        raise DataError(
            expected="a mask with a class number for each pixel (gray or palette)",
            got=f"an image of mode {mode}",
            where=str(file),
        )
    if values.shape != size:
        raise DataError(
            expected=f"a mask as large as its image, {size[1]}x{size[0]} (width x height)",
            got=f"{values.shape[1]}x{values.shape[0]}",
            where=str(file),
        )
    return values.astype(np.int64)
