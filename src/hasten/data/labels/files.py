"""A label file or folder of whichever form, found and read."""

from __future__ import annotations

import json
from pathlib import Path

from hasten.data.labels.coco import is_coco, read_coco
from hasten.data.labels.labels import Labels
from hasten.data.labels.mask_folder import MASK_SUFFIXES, read_masks
from hasten.data.labels.pictures import Pictures, read_text
from hasten.data.labels.table import TABLE_SUFFIXES, read_table
from hasten.data.labels.yolo import read_yolo
from hasten.errors import DataError, foreign

__all__ = ["find_file", "read_alphabet", "read_label_file"]

_FORMS = (
    "a COCO .json, a folder of YOLO .txt files or of mask images, or a table or texts"
    f" ({', '.join(TABLE_SUFFIXES)})"
)


def read_label_file(
    path: Path, count: int, pictures: Pictures | None, scratch: Path
) -> tuple[Labels, list[str]]:
    """Return labels for so many samples, in their order, and what was assumed.

    ``pictures`` are the images that samples were read from; without them, labels stand in the order
    of the samples. Raises DataError for what cannot be read, or does not fit.
    """
    if path.is_dir():
        return _read_folder(path, _required(pictures, path), scratch)
    if path.suffix.lower() not in TABLE_SUFFIXES:
        got = "another kind of file" if path.exists() else "no such file"
        raise DataError(expected=_FORMS, got=got, where=str(path))
    if path.suffix.lower() == ".json" and is_coco(_document(path)):
        return read_coco(path, _required(pictures, path)), []
    return read_table(path, count, pictures)


def find_file(text: str, data: Path | None) -> Path:
    """Return a file that is named beside data: as it is, in the folder of data, or beside it.

    Raises DataError where it is in none of these places.
    """
    named = Path(text).expanduser()
    places = [named]
    if data is not None and not named.is_absolute():
        places += [data / named, data.parent / named]
    for place in places:
        if place.exists():
            return place
    raise DataError(
        expected=_FORMS,
        got="no such file or folder",
        where=" or ".join(str(place) for place in places),
    )


def read_alphabet(path: Path) -> tuple[str, ...]:
    """Read the symbol of each class: a line each, or JSON, a list or numbers by symbol."""
    text = read_text(path)
    if path.suffix.lower() != ".json":
        return tuple(text.split("\n")[:-1] if text.endswith("\n") else text.split("\n"))
    document = _document(path)
    if isinstance(document, list) and all(isinstance(one, str) for one in document):
        return tuple(document)
    if isinstance(document, dict) and sorted(document.values()) == list(range(len(document))):
        return tuple(sorted(document, key=lambda symbol: document[symbol]))
    raise DataError(
        expected="a list of symbols, or the numbers 0, 1, 2, ... by symbol",
        got=type(document).__name__,
        where=str(path),
    )


def _read_folder(path: Path, pictures: Pictures, scratch: Path) -> tuple[Labels, list[str]]:
    suffixes = {
        file.suffix.lower() for file in path.rglob("*") if not file.name.startswith(".")
    } - {""}
    if ".txt" in suffixes and suffixes.isdisjoint(MASK_SUFFIXES):
        return read_yolo(path, pictures), []
    if not suffixes.isdisjoint(MASK_SUFFIXES) and ".txt" not in suffixes:
        return read_masks(path, pictures, scratch)
    got = f"both {', '.join(sorted(suffixes))}" if suffixes else "an empty folder"
    raise DataError(
        expected=f"YOLO .txt files or mask images ({', '.join(MASK_SUFFIXES)})",
        got=got,
        where=str(path),
    )


def _required(pictures: Pictures | None, path: Path) -> Pictures:
    if pictures is None:
        raise DataError(
            expected="a folder of images beside labels of boxes or masks",
            got="arrays",
            where=str(path),
            hint="give boxes and masks of arrays as 'labels' in Python, masks in the .npz too",
        )
    return pictures


def _document(path: Path) -> object:
    text = read_text(path)
    with foreign(DataError, expected="JSON", where=str(path)):
        found: object = json.loads(text)
    return found
