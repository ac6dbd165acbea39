"""Boxes of YOLO text files: ``labels/NAME.txt`` beside ``images/NAME.jpg``, a line a box."""

from __future__ import annotations

from pathlib import Path

from hasten.data.labels.boxes import Boxes, placed_boxes, require_inside
from hasten.data.labels.labels import Labels
from hasten.data.labels.pictures import Pictures
from hasten.errors import DataError
from hasten.plain_file import read_plain_text

__all__ = ["read_yolo"]

#: Files with the names of classes, which annotation programs put beside those of images.
_NAMES = "classes.txt"
_BOX = 5


def read_yolo(folder: Path, pictures: Pictures) -> Labels:
    """Read ``class centre_x centre_y width height`` in shares of the image, a line a box.

    A line of more numbers is a class and the corners of a polygon, of which the bounding box is
    taken. An image without boxes has an empty file. Raises DataError with the line for anything
    else.
    """
    names = _class_names(folder / _NAMES)
    files = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in sorted(folder.rglob("*.txt"))
        if file.name != _NAMES
    }
    try:
        found = pictures.in_order(files, str(folder))
    except DataError as problem:
        if not problem.got.startswith("none for"):
            raise
        raise DataError(
            expected=problem.expected,
            got=problem.got,
            where=problem.where,
            hint="an image without boxes has an empty file",
        ) from None
    each = [_read(file, pictures.size(at), names) for at, file in enumerate(found)]
    return placed_boxes(each, pictures, names)


def _class_names(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    return tuple(line.strip() for line in _lines(path) if line.strip())


def _lines(path: Path) -> list[str]:
    return read_plain_text(
        path, expected="a label file of UTF-8", error=DataError, encoding="utf-8-sig"
    ).splitlines()


def _read(path: Path, size: tuple[int, int], names: tuple[str, ...]) -> Boxes:
    rows = []
    for number, line in enumerate(_lines(path), 1):
        if line.strip():
            where = f"{path}, line {number}"
            which, box = _box(line, size, where)
            _require_class(which, names, where)
            rows.append((box, which, False))
    return Boxes.of(rows)


def _box(
    line: str, size: tuple[int, int], where: str
) -> tuple[int, tuple[float, float, float, float]]:
    words = line.split()
    try:
        which, numbers = int(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise DataError(
            expected="a class number and numbers from 0 to 1", got=repr(line.strip()), where=where
        ) from None
    height, width = size
    if len(words) == _BOX:
        x, y, across, down = numbers
        shares = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
    elif len(words) > _BOX + 1 and len(words) % 2:
        shares = (min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2]))
    else:
        raise DataError(
            expected="5 numbers a line: class, centre x and y, width, height",
            got=str(len(words)),
            where=where,
        )
    left, top, right, bottom = shares
    box = (left * width, top * height, right * width, bottom * height)
    require_inside(box, size, where)
    return which, box


def _require_class(which: int, names: tuple[str, ...], where: str) -> None:
    if which < 0 or (names and which >= len(names)):
        raise DataError(
            expected=f"a class from 0 to {len(names) - 1}" if names else "a class from 0",
            got=str(which),
            where=where,
        )
