"""Labels of one kind, one sample after another; boxes and texts of any number and length."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["IGNORED", "LABEL_KINDS", "LabelKind", "Labels", "two_valued"]

LabelKind = Literal["classes", "several", "values", "mask", "boxes", "texts"]

#: Each kind with what it is of one sample, for messages and the docs.
LABEL_KINDS: dict[LabelKind, str] = {
    "classes": "one class, an integer from 0",
    "several": "any number of classes, 0 or 1 for each",
    "values": "one number or several, floats",
    "mask": "a class for each place, integers [height, width]",
    "boxes": "boxes, each with its class",
    "texts": "a text",
}
#: Places of a mask with this class, or a negative one, are not judged.
IGNORED = 255

Indices = Sequence[int] | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Labels:
    """What is true of each sample.

    ``columns`` hold ``values``, [n, ...], for classes, several, values and masks. Boxes are
    ``boxes``, float64 [all, 4] as (left, top, right, bottom) in pixels, ``classes``, int64 [all],
    and ``crowd``, bool [all]; texts are ``bytes``, UTF-8. Of these two a sample's rows are those
    between its ``offsets``, int64 [n + 1].

    ``names`` are the names of classes and ``ids`` their numbers in the label file, where it has
    any. ``size`` is (height, width) of the picture that boxes and masks are of, and ``alphabet``
    the symbols that classes of a sequence stand for.
    """

    kind: LabelKind
    columns: Mapping[str, NDArray[Any]]
    offsets: NDArray[np.int64] | None = None
    names: tuple[str, ...] = ()
    ids: tuple[int, ...] = ()
    size: tuple[int, int] | None = None
    alphabet: tuple[str, ...] = ()

    @classmethod
    def array(cls, kind: LabelKind, values: NDArray[Any], **known: Any) -> Labels:
        """Make labels of a kind that is one array, [n, ...]."""
        return cls(kind, {"values": values}, **known)

    @classmethod
    def of_boxes(
        cls,
        boxes: Sequence[ArrayLike],
        classes: Sequence[ArrayLike],
        crowd: Sequence[ArrayLike] | None = None,
        **known: Any,
    ) -> Labels:
        """Make labels of the boxes, [k, 4], and classes, [k], of each sample."""
        each = [np.asarray(one, np.float64).reshape(-1, 4) for one in boxes]
        of_crowds = crowd or [np.zeros(len(one), bool) for one in each]
        columns = {
            "boxes": np.concatenate([np.empty((0, 4)), *each]),
            "classes": _joined(classes, np.int64),
            "crowd": _joined(of_crowds, np.bool_),
        }
        return cls("boxes", columns, _offsets(map(len, each)), **known)

    @classmethod
    def of_texts(cls, texts: Sequence[str], **known: Any) -> Labels:
        """Make labels of a text for each sample."""
        each = [text.encode() for text in texts]
        characters = np.frombuffer(b"".join(each), np.uint8)
        return cls("texts", {"bytes": characters}, _offsets(map(len, each)), **known)

    def __len__(self) -> int:
        if self.offsets is not None:
            return len(self.offsets) - 1
        return len(self.columns["values"])

    @property
    def values(self) -> NDArray[Any]:
        """The array of a kind that is one, [n, ...]."""
        return self.columns["values"]

    @property
    def texts(self) -> list[str]:
        """The text of each sample."""
        content = self.columns["bytes"].tobytes()
        return [content[rows].decode() for rows in self._slices()]

    def each(self, column: str) -> list[NDArray[Any]]:
        """Return what each sample has of a column: boxes, classes or crowd."""
        return [self.columns[column][rows] for rows in self._slices()]

    @property
    def plain(self) -> Any:
        """What a function of the user's is given: an array, texts, or dicts of boxes and classes.

        >>> Labels.of_boxes([[[0, 0, 2, 2]]], [[3]]).plain
        [{'boxes': array([[0., 0., 2., 2.]]), 'classes': array([3])}]
        """
        if self.kind == "texts":
            return self.texts
        if self.kind == "boxes":
            pairs = zip(self.each("boxes"), self.each("classes"), strict=True)
            return [{"boxes": boxes, "classes": classes} for boxes, classes in pairs]
        return self.values

    def select(self, indices: Indices) -> Labels:
        """Return the labels of these samples, in this order."""
        chosen = np.asarray(indices, np.int64)
        if self.offsets is None:
            columns = {name: column[chosen] for name, column in self.columns.items()}
            return replace(self, columns=columns)
        slices = self._slices()
        taken = [np.arange(slices[at].start, slices[at].stop) for at in chosen]
        rows = np.concatenate([np.empty(0, np.int64), *taken])
        columns = {name: column[rows] for name, column in self.columns.items()}
        return replace(self, columns=columns, offsets=_offsets(map(len, taken)))

    def pieces(self) -> Iterable[NDArray[Any]]:
        """Yield all arrays that make up the labels."""
        if self.offsets is not None:
            yield self.offsets
        yield from self.columns.values()

    def __repr__(self) -> str:
        return f"Labels({len(self)} x {self.kind})"

    def _slices(self) -> list[slice]:
        if self.offsets is None:
            return [slice(at, at + 1) for at in range(len(self))]
        ends = self.offsets.tolist()
        return [slice(start, end) for start, end in itertools.pairwise(ends)]


def two_valued(masks: NDArray[Any]) -> NDArray[Any]:
    """Return masks of 0 and 255 alone, as images of masks often are, as 0 and 1."""
    if masks.dtype != np.uint8 or masks.max(initial=0) != IGNORED:
        return masks
    return (masks == IGNORED).astype(np.uint8) if set(np.unique(masks)) <= {0, IGNORED} else masks


def _joined(parts: Sequence[ArrayLike], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *(np.asarray(one, dtype) for one in parts)])


def _offsets(lengths: Iterable[int]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum([*lengths], dtype=np.int64)]).astype(np.int64)
