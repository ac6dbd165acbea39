"""Samples from a folder of images, one sub-folder a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hasten.data.framing import framed
from hasten.data.labels import Labels
from hasten.data.labels.files import find_file, read_label_file
from hasten.data.labels.pictures import Pictures
from hasten.data.npy import open_npy, write_npy
from hasten.data.preprocessing import Preprocessing
from hasten.data.preprocessing_text import parse_preprocessing
from hasten.data.samples import Samples, stratified
from hasten.errors import DataError, MissingExtraError, OutputError, foreign
from hasten.graph import Signature, TensorSpec
from hasten.plain_file import open_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["image_input", "read_image_folder"]

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_DEEP_MODES = ("I", "F")
_IMAGE_RANK = 4
#: A few hundred bytes can say that they are a gigapixel: 3 bytes each, twice over.
_MAX_PIXELS = 100_000_000
#: Where images may lie beside their labels.
_IMAGES = "images"

Advance = Callable[[int, int], None]


class _Listing(NamedTuple):
    """The images in a fixed order, and the labels of each where there are any."""

    files: list[Path]
    labels: Labels | None

    def some(self, count: int | None, seed: int) -> _Listing:
        """Return this many of them, each class with its share; all where there are no more."""
        if count is None or count >= len(self.files):
            return self
        order = np.random.default_rng(seed).permutation(len(self.files))
        labels = self.labels
        of_classes = labels is not None and labels.kind == "classes"
        classes = labels.values if labels is not None and of_classes else np.zeros(len(order))
        chosen = order[stratified(np.asarray(classes, np.int64)[order], count)]
        kept = None if labels is None else labels.select(chosen)
        return _Listing([self.files[at] for at in chosen], kept)


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
    labels: str | None = None,
    labelled: bool = True,
) -> Samples:
    """Decode and resize every image into one uint8 array on disk, in the folder ``scratch``.

    Sub-folders are classes: sorted by name they are labels 0..k-1. Without sub-folders there are
    no labels. With ``labels``, a label file or folder, the labels are what stands there, and images
    may lie in a sub-folder ``images``. Images become pictures as ``preprocessing`` says, by default
    resized to the size of the input; orientation tags are not applied, as in torchvision.
    Memory does not grow with the number of images. ``advance`` is told (done, total).
    ``at_most`` so many images are decoded, drawn with ``seed``, each class giving its share.

    Raises DataError for an image that cannot be read, a folder without images or with other
    files, labels that do not fit, and a model without one image input; MissingExtraError without
    Pillow.
    """
    spec = image_input(signature, str(path))
    wanted = preprocessing or parse_preprocessing("", spec)
    _require_pillow(path)
    _make_folder(scratch)
    listing, notes = _labelled(path, labels, wanted, scratch, labelled=labelled)
    listing = listing.some(at_most, seed)
    shape = (len(listing.files), *wanted.pixel_shape)
    stored = scratch / "pixels.npy"
    write_npy(stored, np.dtype(np.uint8), shape, _decode_all(listing.files, wanted, advance))
    pixels = open_npy(stored, "uint8")
    return Samples(
        {spec.name: pixels}, listing.labels, {spec.name: wanted}, source=str(path), notes=notes
    )


def _labelled(
    path: Path, labels: str | None, preprocessing: Preprocessing, scratch: Path, *, labelled: bool
) -> tuple[_Listing, list[str]]:
    """Return the images with their labels: of a label file, or of the folders that they are in."""
    if labels is None:
        return _list_images(path), []
    folder = path / _IMAGES if (path / _IMAGES).is_dir() else path
    files = _list_images(folder).files
    if not labelled:
        return _Listing(files, None), []
    found, notes = read_label_file(
        find_file(labels, path), len(files), Pictures(folder, files, preprocessing), scratch
    )
    return _Listing(files, found), notes


def _make_folder(scratch: Path) -> None:
    try:
        scratch.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(
            expected="a folder to write pixels to",
            got=problem.strerror or str(problem),
            where=str(scratch),
        ) from problem


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
        classes = [label for label, members in enumerate(by_class) for _ in members]
        names = tuple(folder.name for folder in folders)
        labels = Labels.array("classes", np.array(classes, np.int64), names=names)
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

    expected = "an image that can be decoded"
    with (
        open_plain(file, expected=expected, error=DataError) as opened,
        foreign(DataError, expected=expected, where=str(file)),
        Image.open(opened) as image,
    ):
        if image.width * image.height > _MAX_PIXELS:
            raise DataError(
                expected=f"an image of at most {_MAX_PIXELS // 10**6} megapixels",
                got=f"{image.width}x{image.height}",
                where=str(file),
                hint="scale it down: it is made as small as the model's input in any case",
            )
        image.load()
        converted = _to_colour(image, preprocessing.colour, file)
    place = framed(preprocessing, converted.height, converted.width, str(file))
    picture = place.image(converted, preprocessing.interpolation, preprocessing.pad or 0)
    pixels: NDArray[Any] = picture.reshape(preprocessing.pixel_shape)
    return pixels[..., ::-1] if preprocessing.colour == "bgr" else pixels


def _to_colour(image: Image.Image, colour: str, file: Path) -> Image.Image:
    if image.mode.split(";")[0] in _DEEP_MODES:
        raise DataError(
            expected="an image of 8 bits a channel", got=f"mode {image.mode}", where=str(file)
        )
    has_transparent_palette = image.mode == "P" and "transparency" in image.info
    opaque = image.convert("RGBA") if has_transparent_palette else image
    return opaque.convert("L" if colour == "gray" else "RGB")
