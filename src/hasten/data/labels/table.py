"""Labels in rows: CSV, TSV, JSON lines, or a text a line, each beside the name of its file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hasten.data.labels.labels import Labels
from hasten.data.labels.pictures import Pictures, read_text
from hasten.data.labels.take import take_labels
from hasten.errors import DataError, foreign

__all__ = ["TABLE_SUFFIXES", "read_table"]

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".txt")
_FILE_WORDS = ("file", "file_name", "filename", "image", "image_id", "name", "path", "id")
_TEXT_WORDS = ("text", "transcription", "transcript", "sentence", "caption", "words")
_CLASS_WORDS = ("class", "label", "category", "target", "labels", "classes")
_NAMED = 6


class _Rows(NamedTuple):
    """Columns by name, in order, and the names that a header gave them."""

    columns: Mapping[str, list[str]]
    has_header: bool


def read_table(path: Path, count: int, pictures: Pictures | None) -> tuple[Labels, list[str]]:
    """Return the labels in the order of the samples, and what was assumed.

    A column holds the names of files, unless rows stand in the order of the samples. One other
    column holds class numbers, class names, numbers or texts; several hold numbers. Raises
    DataError for rows of different lengths, and where rows and samples are not the same.
    """
    table = _read(path, pictures)
    columns = dict(table.columns)
    names = _file_column(columns, table, pictures)
    files = columns.pop(names) if names is not None else None
    if not columns:
        raise DataError(expected="a column of labels", got="file names alone", where=str(path))
    rows = list(zip(*columns.values(), strict=True))
    if files is not None and pictures is not None:
        _require_once(files, path)
        rows = pictures.in_order(dict(zip(files, rows, strict=True)), str(path))
    elif len(rows) != count:
        raise DataError(
            expected=f"a row for each of {count} samples, in their order",
            got=str(len(rows)),
            where=str(path),
        )
    ordered = {name: [row[at] for row in rows] for at, name in enumerate(columns)}
    return _labels(ordered, table.has_header, str(path))


def _labels(
    columns: dict[str, list[str]], has_header: bool, where: str
) -> tuple[Labels, list[str]]:
    count = len(next(iter(columns.values())))
    chosen = _named(columns, _TEXT_WORDS) if has_header else None
    if chosen is not None:
        return Labels.of_texts(columns[chosen]), []
    numbers = [_numbers(values) for values in columns.values()]
    if all(one is not None for one in numbers):
        whole = all(one.dtype.kind == "i" for one in numbers if one is not None)
        stacked = np.stack([one for one in numbers if one is not None], axis=1)
        values = stacked if whole else stacked.astype(np.float64)
        return take_labels(values[:, 0] if len(numbers) == 1 else values, count, where), []
    if len(columns) > 1:
        wanted = _named(columns, _CLASS_WORDS) if has_header else None
        if wanted is None:
            raise DataError(
                expected=f"one column of labels, named {', '.join(_TEXT_WORDS + _CLASS_WORDS)}",
                got=", ".join(columns),
                where=where,
            )
        columns = {wanted: columns[wanted]}
    ((name, words),) = columns.items()
    is_class = has_header and name.strip().lower() in _CLASS_WORDS
    return _of_words(words, is_class, where)


def _of_words(words: list[str], is_class: bool, where: str) -> tuple[Labels, list[str]]:
    """Take words that come again and again for names of classes, others for texts."""
    distinct = sorted(set(words))
    repeated = 2 * len(distinct) <= len(words) and not any(" " in word for word in distinct)
    if not (is_class or repeated):
        return Labels.of_texts(words), []
    if "" in distinct:
        raise DataError(expected="a class in each row", got="an empty one", where=where)
    number = {name: at for at, name in enumerate(distinct)}
    classes = np.array([number[word] for word in words], np.int64)
    said = ", ".join(f"{at} {name}" for name, at in list(number.items())[:_NAMED])
    more = ", ..." if len(number) > _NAMED else ""
    note = f"labels: {len(number)} class names, numbered in their order: {said}{more}"
    return Labels.array("classes", classes, names=tuple(distinct)), [note]


def _numbers(values: list[str]) -> Any:
    """Return integers or floats; None where one is neither, or has zeros in front as texts do."""
    if any(len(one) > 1 and one[0] == "0" and one.isdecimal() for one in values):
        return None
    for dtype in (np.int64, np.float64):
        try:
            return np.array([dtype(one) for one in values], dtype)
        except ValueError:
            continue
    return None


def _file_column(
    columns: Mapping[str, list[str]], table: _Rows, pictures: Pictures | None
) -> str | None:
    """Return the column of file names, by its own name or by what is in it."""
    if pictures is None or len(columns) < 2:  # noqa: PLR2004 - a column of labels alone
        return None
    named = _named(columns, _FILE_WORDS) if table.has_header else None
    if named is not None:
        return named
    counts = {name: sum(pictures.knows(one) for one in values) for name, values in columns.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else next(iter(columns))


def _named(columns: Mapping[str, list[str]], words: Sequence[str]) -> str | None:
    lower = {name.strip().lower(): name for name in reversed(list(columns))}
    return next((lower[word] for word in words if word in lower), None)


def _require_once(files: Sequence[str], path: Path) -> None:
    if len(set(files)) < len(files):
        again = next(name for at, name in enumerate(files) if name in files[:at])
        raise DataError(expected="each image once", got=f"'{again}' twice", where=str(path))


def _read(path: Path, pictures: Pictures | None) -> _Rows:
    text = read_text(path)
    if path.suffix == ".jsonl":
        return _of_objects([_json(line, path) for line in text.splitlines() if line.strip()], path)
    if path.suffix == ".json":
        document = _json(text, path)
        return _of_objects(document if isinstance(document, list) else [document], path)
    if path.suffix == ".txt" and not (pictures is not None and "\t" in text):
        return _Rows({"text": text.splitlines()}, has_header=True)
    with foreign(DataError, expected="rows of cells", where=str(path)):
        rows = [row for row in _split(text, path.suffix) if row]
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise DataError(
                expected=f"{width} columns as in the first row",
                got=str(len(row)),
                where=f"{path}, row {number}",
            )
    return _with_header(rows, pictures)


def _split(text: str, suffix: str) -> Iterable[list[str]]:
    """Return the cells of each line; between tabs, quotes are of the text."""
    if suffix == ".csv":
        return csv.reader(io.StringIO(text))
    return csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)


def _with_header(rows: list[list[str]], pictures: Pictures | None) -> _Rows:
    """Take the first row for names where it holds known ones, and no file of the images."""
    first = [cell.strip().lower() for cell in rows[0]]
    known = {*_FILE_WORDS, *_TEXT_WORDS, *_CLASS_WORDS}
    is_file = pictures is not None and any(pictures.knows(cell) for cell in rows[0])
    has_header = not is_file and not known.isdisjoint(first)
    names = rows[0] if has_header else [f"column {at}" for at in range(1, len(first) + 1)]
    body = rows[1:] if has_header else rows
    return _Rows({name: [row[at] for row in body] for at, name in enumerate(names)}, has_header)


def _of_objects(objects: list[Any], path: Path) -> _Rows:
    for number, one in enumerate(objects, 1):
        if not isinstance(one, dict) or one.keys() != objects[0].keys():
            raise DataError(
                expected="a JSON object with the same keys in each row",
                got=", ".join(one) if isinstance(one, dict) else type(one).__name__,
                where=f"{path}, row {number}",
            )
    return _Rows({name: [str(one[name]) for one in objects] for name in objects[0]}, True)


def _json(text: str, path: Path) -> Any:
    with foreign(DataError, expected="JSON", where=str(path)):
        found: Any = json.loads(text)
    return found
