"""What lies in a bundle's folder: every file by name and digest, and none outside it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from hasten.bundle.manifest import Artifact, FileRecord, Manifest
from hasten.errors import BundleError
from hasten.plain_file import open_plain, shown

__all__ = [
    "EDITABLE",
    "MANIFEST",
    "SIGNATURE",
    "inside",
    "names_in",
    "recorded",
    "require_files",
    "some",
    "unlisted",
]

MANIFEST = "bundle.json"
SIGNATURE = "bundle.sig"
#: What may be changed by hand for serving, in a bundle that is not signed.
EDITABLE = "config.pbtxt"
#: More names than these are not looked at, and not listed in a message.
_MAX_NAMES, _NAMED = 100_000, 5
_PIECE_BYTES = 2**20


def inside(folder: Path, name: str, what: str) -> Path:
    """Return the file of this name in a bundle, with all links followed.

    ``what`` it is, such as "model file", is said in errors. Raises BundleError for a name or a link
    that leads out of the folder, and for what is no regular file.
    """
    where = str(folder / name) if name.isprintable() else repr(name)
    try:
        file = (folder / name).resolve(strict=True)
        if ".." in PurePosixPath(name).parts or not file.is_relative_to(folder.resolve()):
            raise BundleError(
                expected=f"a {what} inside the bundle", got=shown(file), where=str(folder)
            )
        if not file.is_file():
            raise BundleError(expected=f"a {what}", got="something else", where=where)
    except OSError as error:
        got = error.strerror or str(error)
        raise BundleError(expected=f"the {what}", got=got, where=where) from error
    except (ValueError, RuntimeError) as error:  # a null byte, a loop of links
        raise BundleError(expected=f"the {what}", got=str(error), where=where) from error
    return file


def recorded(folder: Path, name: str) -> FileRecord:
    """Return the record of a file of a bundle as it is now; BundleError where there is none."""
    size, digest = _measured(inside(folder, name, "file of a bundle"))
    return FileRecord(file=name, sha256=digest, bytes=size)


def require_files(manifest: Manifest, folder: Path) -> tuple[str, ...]:
    """Raise BundleError unless the model and all listed files are those that were written.

    Returns the names of files that may be changed by hand and were.
    """
    _require_file(manifest.artifact, folder, "model file")
    edited = []
    for record in manifest.files:
        if record.file == manifest.artifact.file:
            continue
        if record.file == EDITABLE and not os.path.lexists(folder / EDITABLE):
            continue  # taken away, which changes nothing: it says what the plan says
        try:
            _require_file(record, folder, "file of a bundle")
        except BundleError:
            if record.file != EDITABLE or not _stays_inside(folder):
                raise
            edited.append(record.file)
    return tuple(edited)


def unlisted(manifest: Manifest, folder: Path) -> tuple[str, ...]:
    """Return what lies in the folder and is no part of the bundle, by name: it is never read."""
    listed = {record.file for record in manifest.files}
    listed |= {MANIFEST, SIGNATURE, manifest.artifact.file}
    return tuple(sorted(name for name in names_in(folder) if name not in listed))


def some(names: Sequence[str]) -> str:
    """Return the first few names, in one line."""
    words = ", ".join(shown(name) for name in names[:_NAMED])
    return f"{words} and {len(names) - _NAMED} more" if len(names) > _NAMED else words


def names_in(folder: Path) -> Iterator[str]:
    """Yield all that is no folder, links to folders included, as paths below the bundle."""
    count = 0
    for parent, folders, files in os.walk(folder):
        here = Path(parent)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*files, *links):
            count += 1
            if count > _MAX_NAMES:
                raise BundleError(
                    expected=f"a bundle of fewer than {_MAX_NAMES} files",
                    got="more",
                    where=str(folder),
                )
            yield (here / name).relative_to(folder).as_posix()


def _require_file(record: Artifact | FileRecord, folder: Path, what: str) -> None:
    file = inside(folder, record.file, what)
    size, digest = _measured(file)
    if (size, digest) != (record.bytes, record.sha256):
        raise BundleError(
            expected=f"{record.bytes} bytes with SHA-256 {record.sha256[:12]!r}...",
            got=f"{size} bytes with {digest[:12]!r}...",
            where=shown(folder / record.file),
            hint="the bundle is damaged; make or copy it again",
        )


def _measured(file: Path) -> tuple[int, str]:
    sha = hashlib.sha256()
    with open_plain(file, expected="a file of a bundle", error=BundleError) as opened:
        try:
            while piece := opened.read(_PIECE_BYTES):
                sha.update(piece)
            return os.fstat(opened.fileno()).st_size, sha.hexdigest()
        except OSError as error:
            raise BundleError(
                expected="a file that can be read",
                got=error.strerror or str(error),
                where=shown(file),
            ) from error


def _stays_inside(folder: Path) -> bool:
    """Whether the file that may be edited is one of the bundle's own."""
    return (folder / EDITABLE).resolve().is_relative_to(folder.resolve())
