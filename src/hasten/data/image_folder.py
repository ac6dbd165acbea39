"""Samples from a folder of images, one sub-folder a class."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hasten.data.npy import open_npy, write_npy
from hasten.data.preprocessing import Preprocessing, parse_preprocessing
from hasten.data.samples import Samples, stratified
from hasten.errors import DataError, MissingExtraError, OutputError, one_line
from hasten.graph import Signature, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["image_input", "read_image_folder"]

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_DEEP_MODES = ("I", "F")
_IMAGE_RANK = 4

Advance = Callable[[int, int], None]


class _Listing(NamedTuple):
    """The images in a fixed order, and the class of each where there are classes."""

    files: list[Path]
    labels: list[int] | None

    def some(self, count: int | None, seed: int) -> _Listing:
        """Return this many of them, each class with its share; all where there are no more."""
        if count is None or count >= len(self.files):
            return self
        order = np.random.default_rng(seed).permutation(len(self.files))
        classes = np.zeros(len(order), np.int64) if self.labels is None else np.array(self.labels)
        chosen = order[stratified(classes[order], count)]
        labels = None if self.labels is None else [int(classes[at]) for at in chosen]
        return _Listing([self.files[at] for at in chosen], labels)


def image_input(signature: Signature, where: str) -> TensorSpec:
    """Return the one input that takes images; raises DataError unless there is exactly one."""
    found = [
        spec
        for spec in signature.inputs
        if len(spec.shape) == _IMAGE_RANK and spec.dtype in ("float32", "uint8")
    ]
    if len(found) != 1:
        raise DataError(
            expected="a model with one image input (float32 or uint8, 4 axes)",
            got=", ".join(str(spec) for spec in signature.inputs),
            where=where,
        )
    return found[0]


def read_image_folder(
    path: Path,
    signature: Signature,
    preprocessing: Preprocessing | None,
    scratch: Path,
    advance: Advance | None = None,
    *,
    at_most: int | None = None,
    seed: int = 0,
) -> Samples:
    """Decode and resize every image into one uint8 array on disk, in the folder ``scratch``.

    Sub-folders are classes: sorted by name they are labels 0..k-1. Without sub-folders there are
    no labels. Images are resized with a bilinear filter to the size of ``preprocessing``, which
    follows from the input where it is None; orientation tags are not applied, as in torchvision.
    Memory does not grow with the number of images. ``advance`` is told (done, total).
    ``at_most`` so many images are decoded, drawn with ``seed``, each class giving its share.

    Raises DataError for an image that cannot be read, a folder without images or with other
    files, and a model without one image input; MissingExtraError without Pillow.
    """
    spec = image_input(signature, str(path))
    wanted = preprocessing or parse_preprocessing("", spec)
    _require_pillow(path)
    listing = _list_images(path).some(at_most, seed)
    shape = (len(listing.files), *wanted.pixel_shape)
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(
            expected="a folder to write pixels to",
            got=problem.strerror or str(problem),
            where=str(scratch),
        ) from problem
    stored = scratch / "pixels.npy"
    write_npy(stored, np.dtype(np.uint8), shape, _decode_all(listing.files, wanted, advance))
    pixels = open_npy(stored, "uint8")
    return Samples({spec.name: pixels}, listing.labels, {spec.name: wanted}, source=str(path))


def _require_pillow(path: Path) -> None:
    try:
        import PIL.Image  # noqa: F401 - only whether it is there
    except ImportError:
        raise MissingExtraError("images", needed_by=f"image folder {path}") from None


def _list_images(path: Path) -> _Listing:
    if not path.is_dir():
        raise DataError(expected="a folder of images", got="no such folder", where=str(path))
    entries = _visible(path)
    folders = [entry for entry in entries if entry.is_dir()]
    files = [entry for entry in entries if not entry.is_dir()]
    if folders and files:
        raise DataError(
            expected="either images or a folder for each class",
            got=f"both, such as '{files[0].name}' beside folder '{folders[0].name}'",
            where=str(path),
        )
    labels = None
    if folders:
        by_class = [_visible(folder) for folder in folders]
        files = [file for members in by_class for file in members]
        labels = [label for label, members in enumerate(by_class) for _ in members]
    if not files:
        raise DataError(expected="images", got="an empty folder", where=str(path))
    for file in files:
        if file.suffix.lower() not in _SUFFIXES or not file.is_file():
            raise DataError(
                expected=f"only images ({', '.join(_SUFFIXES)})",
                got="a folder" if file.is_dir() else "another kind of file",
                where=str(file),
                hint="move it out",
            )
    return _Listing(files, labels)


def _visible(folder: Path) -> list[Path]:
    """Return what is in the folder in the order of names, without hidden files."""
    return sorted(
        (entry for entry in folder.iterdir() if not entry.name.startswith(".")),
        key=lambda entry: entry.name,
    )


def _decode_all(
    files: list[Path], preprocessing: Preprocessing, advance: Advance | None
) -> Iterator[NDArray[np.uint8]]:
    for done, file in enumerate(files, start=1):
        yield _decode(file, preprocessing)
        if advance is not None:
            advance(done, len(files))


def _decode(file: Path, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """Read one image as uint8 [height, width, channels] in the size and colour asked for."""
    from PIL import Image

    problems = (OSError, ValueError, SyntaxError, EOFError, struct.error)
    try:
        with Image.open(file) as image:
            image.load()
            converted = _to_colour(image, preprocessing.colour, file)
    except (*problems, Image.DecompressionBombError) as problem:
        raise DataError(
            expected="an image that can be decoded", got=one_line(problem), where=str(file)
        ) from problem
    height, width = preprocessing.size
    resized = converted.resize((width, height), Image.Resampling.BILINEAR)
    pixels: NDArray[Any] = np.asarray(resized, np.uint8).reshape(preprocessing.pixel_shape)
    return pixels[..., ::-1] if preprocessing.colour == "bgr" else pixels


def _to_colour(image: Image.Image, colour: str, file: Path) -> Image.Image:
    if image.mode.split(";")[0] in _DEEP_MODES:
        raise DataError(
            expected="an image of 8 bits a channel", got=f"mode {image.mode}", where=str(file)
        )
    has_transparent_palette = image.mode == "P" and "transparency" in image.info
    opaque = image.convert("RGBA") if has_transparent_palette else image
    return opaque.convert("L" if colour == "gray" else "RGB")
