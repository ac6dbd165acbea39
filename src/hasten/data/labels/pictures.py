"""The images that a label file speaks of: found by name, none left over on either side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hasten.data.framing import Framing, framed
from hasten.data.preprocessing import Preprocessing
from hasten.errors import DataError, foreign
from hasten.plain_file import read_plain_text

__all__ = ["Pictures", "read_text"]

T = TypeVar("T")

_NAMED = 3
#: Annotations of 118,000 images of COCO are 450 MB.
_MAX_BYTES = 2**30


@dataclass(frozen=True)
class Pictures:
    """Images in the order of the samples, below a folder, and what is done to them."""

    folder: Path
    files: Sequence[Path]
    preprocessing: Preprocessing

    def __len__(self) -> int:
        return len(self.files)

    def in_order(self, found: Mapping[str, T], where: str) -> list[T]:
        """Return what stands under the name of each image.

        A name is the path below the folder, or its last part where that is of one image alone, with
        or without its suffix. Raises DataError for a name without image, and for an image without.
        """
        by_image: dict[int, T] = {}
        strangers: list[str] = []
        for name, one in found.items():
            at = self._at(name)
            if at is None:
                strangers.append(name)
            elif at in by_image:
                raise DataError(
                    expected=f"one label for image '{self.names[at]}'",
                    got=f"two, the second for '{name}'",
                    where=where,
                )
            else:
                by_image[at] = one
        if strangers:
            raise DataError(
                expected=f"labels of the {len(self)} images in {self.folder} alone",
                got=f"{_some(strangers)} without such an image",
                where=where,
                hint="are images and labels of the same set, and named alike?",
            )
        missing = [name for at, name in enumerate(self.names) if at not in by_image]
        if missing:
            raise DataError(
                expected=f"a label for each of {len(self)} images",
                got=f"none for {_some(missing)}",
                where=where,
            )
        return [by_image[at] for at in range(len(self))]

    @cached_property
    def names(self) -> list[str]:
        """The path of each below the folder."""
        return [file.relative_to(self.folder).as_posix() for file in self.files]

    def framing(self, at: int) -> Framing:
        """Return where an image stands in the picture that the model is given."""
        height, width = self.size(at)
        return framed(self.preprocessing, height, width, str(self.files[at]))

    def size(self, at: int) -> tuple[int, int]:
        """Return (height, width) of an image, from its header."""
        from PIL import Image

        where = str(self.files[at])
        with (
            foreign(DataError, expected="an image that can be decoded", where=where),
            Image.open(self.files[at]) as image,
        ):
            return image.height, image.width

    def knows(self, name: str) -> bool:
        """Whether there is an image of this name."""
        return self._at(name) is not None

    def _at(self, name: str) -> int | None:
        path = PurePosixPath(name.replace("\\", "/"))
        for key in (path.as_posix().removeprefix("./"), path.name):
            if key in self._places:
                return self._places[key]
        return None

    @cached_property
    def _places(self) -> dict[str, int]:
        """The image of each name that is of one alone."""
        found: dict[str, list[int]] = {}
        for at, name in enumerate(self.names):
            path = PurePosixPath(name)
            keys = {name, path.name, path.stem, path.with_suffix("").as_posix()}
            for key in keys:
                found.setdefault(key, []).append(at)
        return {key: places[0] for key, places in found.items() if len(places) == 1}


def read_text(path: Path) -> str:
    """Return a text file of UTF-8; DataError where it cannot be read or is empty."""
    text = read_plain_text(
        path,
        expected="a label file of UTF-8",
        error=DataError,
        max_bytes=_MAX_BYTES,
        encoding="utf-8-sig",
    )
    if not text.strip():
        raise DataError(expected="labels", got="an empty file", where=str(path))
    return text


def _some(names: Iterable[str]) -> str:
    every = sorted(names)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in every[:_NAMED]) + more
