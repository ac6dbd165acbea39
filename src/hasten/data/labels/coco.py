"""Boxes of a COCO file: instances_val2017.json and its like (cocodataset.org/#format-data)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hasten.data.labels.boxes import Boxes, placed_boxes, require_inside
from hasten.data.labels.labels import Labels
from hasten.data.labels.pictures import Pictures, read_text
from hasten.errors import DataError, foreign

__all__ = ["is_coco", "read_coco"]

_PARTS = ("images", "annotations", "categories")


class _Image(msgspec.Struct):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Category(msgspec.Struct):
    id: int
    name: str = ""


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int
    bbox: list[float]
    iscrowd: int = 0
    id: int | str | None = None


class _Coco(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def is_coco(document: Any) -> bool:
    """Whether a JSON document has the parts of a COCO file, or some of them."""
    return isinstance(document, dict) and any(part in document for part in _PARTS[:2])


def read_coco(path: Path, pictures: Pictures) -> Labels:
    """Read boxes and classes; a class is the place of its category among the sorted ids.

    Raises DataError for a file that is none, for images that are not there or not in the file, and
    for boxes of unknown images or classes, or outside their image.
    """
    text = read_text(path)
    with foreign(DataError, expected=f"a COCO file with {', '.join(_PARTS)}", where=str(path)):
        coco = msgspec.json.decode(text.encode(), type=_Coco)
    categories = sorted(coco.categories, key=lambda one: one.id)
    class_of = {one.id: at for at, one in enumerate(categories)}
    files = {image.id: image.file_name for image in coco.images}
    rows: dict[int | str, list[_Annotation]] = {image.id: [] for image in coco.images}
    for annotation in coco.annotations:
        _require_known(annotation, files, class_of, path)
        rows[annotation.image_id].append(annotation)
    images = pictures.in_order({image.file_name: image for image in coco.images}, str(path))
    each = []
    for at, image in enumerate(images):
        size = _size(image, pictures.size(at), path)
        each.append(_boxes(rows[image.id], class_of, size, path))
    names = tuple(one.name for one in categories)
    return placed_boxes(each, pictures, names, tuple(one.id for one in categories))


def _require_known(
    annotation: _Annotation,
    files: dict[int | str, str],
    class_of: dict[int, int],
    path: Path,
) -> None:
    where = _where(path, annotation)
    if annotation.category_id not in class_of:
        raise DataError(
            expected=f"one of {len(class_of)} categories",
            got=f"category_id {annotation.category_id}",
            where=where,
        )
    if annotation.image_id not in files:
        raise DataError(
            expected="an image_id of 'images'", got=repr(annotation.image_id), where=where
        )


def _boxes(
    annotations: list[_Annotation], class_of: dict[int, int], size: tuple[int, int], path: Path
) -> Boxes:
    rows = []
    for one in annotations:
        where = _where(path, one)
        if len(one.bbox) != 4:  # noqa: PLR2004 - left, top, width, height
            raise DataError(
                expected="bbox of 4 numbers: left, top, width, height",
                got=str(len(one.bbox)),
                where=where,
            )
        left, top, width, height = one.bbox
        box = (left, top, left + width, top + height)
        require_inside(box, size, where)
        rows.append((box, class_of[one.category_id], bool(one.iscrowd)))
    return Boxes.of(rows)


def _size(image: _Image, size: tuple[int, int], path: Path) -> tuple[int, int]:
    """Return the size of the image; DataError where the file says another."""
    said = (image.height or size[0], image.width or size[1])
    if said != size:
        raise DataError(
            expected=f"image '{image.file_name}' of {said[1]}x{said[0]} pixels, as labelled",
            got=f"{size[1]}x{size[0]}",
            where=str(path),
            hint="give the images as they were labelled",
        )
    return size


def _where(path: Path, annotation: _Annotation) -> str:
    return f"{path}: annotation {annotation.id} of image {annotation.image_id}"
