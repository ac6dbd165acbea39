"""Labels in the folder of their samples: plain arrays and one JSON document, nothing pickled."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from hasten.data.labels.labels import LabelKind, Labels
from hasten.data.npy import open_npy

__all__ = ["LabelIndex", "read_labels", "write_labels"]

_OFFSETS = "offsets"


class LabelIndex(msgspec.Struct, frozen=True):
    """What is known of labels beside their arrays, whose dtypes are by column."""

    kind: LabelKind
    columns: dict[str, str]
    ragged: bool
    names: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    size: tuple[int, int] | None = None
    alphabet: tuple[str, ...] = ()


def write_labels(folder: Path, labels: Labels) -> LabelIndex:
    """Write the arrays and return what has to be kept beside them; raises OSError."""
    for name, column in labels.columns.items():
        np.save(_path(folder, name), column, allow_pickle=False)
    if labels.offsets is not None:
        np.save(_path(folder, _OFFSETS), labels.offsets, allow_pickle=False)
    dtypes = {name: column.dtype.name for name, column in labels.columns.items()}
    return LabelIndex(
        labels.kind,
        dtypes,
        labels.offsets is not None,
        labels.names,
        labels.ids,
        labels.size,
        labels.alphabet,
    )


def read_labels(folder: Path, index: LabelIndex) -> Labels:
    """Open what was written, as memory maps; raises OSError or ValueError."""
    return Labels(
        index.kind,
        {name: open_npy(_path(folder, name), dtype) for name, dtype in index.columns.items()},
        np.load(_path(folder, _OFFSETS), allow_pickle=False) if index.ragged else None,
        index.names,
        index.ids,
        index.size,
        index.alphabet,
    )


def _path(folder: Path, column: str) -> Path:
    return folder / f"labels_{column}.npy"
