"""A bundle on disk: written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hasten.bundle.bundle import is_bundle
from hasten.bundle.config_pbtxt import config_pbtxt
from hasten.bundle.contents import EDITABLE, MANIFEST, recorded
from hasten.bundle.manifest import Artifact, Evidence, Manifest, PlanRecord
from hasten.errors import OutputError
from hasten.graph import write_whole
from hasten.graph.rows import RowVerdict
from hasten.runtimes import Lowered

__all__ = ["require_free", "write_bundle", "write_manifest"]

#: Triton keeps each version of a model in a folder named by its number.
_VERSION = "1"
#: How the names of folders begin that exist only while a bundle is being written.
_PART = ".hasten-"


def require_free(path: Path, *, force: bool) -> None:
    """Raise OutputError unless a bundle can be written here: asked before hours of work.

    Folders above ``path`` that are missing are made.
    """
    with _reported("a folder that can be written", path.parent):
        exists = os.path.lexists(path)
        if exists and not force:
            raise OutputError(
                expected="a path that is free",
                got="something that exists",
                where=str(path),
                hint="choose another, or give --force to replace it",
            )
        if exists and not is_bundle(path) and not _is_empty_folder(path):
            raise OutputError(
                expected="a bundle to replace",
                got="something that is none",
                where=str(path),
                hint="--force replaces bundles only",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_PART) as probe:
            (Path(probe) / path.name).mkdir()


def write_bundle(
    path: Path,
    *,
    name: str,
    lowered: Lowered,
    plan: PlanRecord,
    evidence: Evidence,
    environment: Mapping[str, Any],
    pages: Mapping[str, Callable[[Manifest], str]],
    rows: RowVerdict | None = None,
    force: bool = False,
) -> Manifest:
    """Write a bundle beside its place, then rename it into it: whole or not at all.

    ``rows`` is what the graph tells of the independence of rows; ``pages`` are further files by
    name, each a function from the manifest to text. With ``force`` a bundle that is there stays
    until the new one is complete. Raises OutputError when the place is taken or cannot be written.
    """
    require_free(path, force=force)
    with _reported("room for a bundle", path):
        manifest = Manifest(
            name=name,
            signature=lowered.signature,
            artifact=Artifact(
                file=f"{_VERSION}/model.{lowered.format}",
                sha256="",
                bytes=0,
                format=lowered.format,
                rows=rows,
            ),
            plan=plan,
            evidence=evidence,
            environment=dict(environment),
        )
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=_PART))
        try:
            part.chmod(0o755)
            manifest = _fill(part, manifest, Path(lowered.path), pages)
            _put_in_place(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return manifest


def write_manifest(folder: Path, manifest: Manifest) -> bytes:
    """Write bundle.json, and return its bytes; raises OutputError where it cannot."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
    write_whole(folder / MANIFEST, encoded)
    return encoded


def _fill(
    folder: Path,
    manifest: Manifest,
    model: Path,
    pages: Mapping[str, Callable[[Manifest], str]],
) -> Manifest:
    """Write every file of a bundle into an empty folder; return its manifest with their digests."""
    (folder / _VERSION).mkdir()
    shutil.copyfile(model, folder / manifest.artifact.file)
    # Digested as it was copied: the file that it was copied from may be another by now.
    copy = recorded(folder, manifest.artifact.file)
    artifact = msgspec.structs.replace(manifest.artifact, sha256=copy.sha256, bytes=copy.bytes)
    manifest = msgspec.structs.replace(manifest, artifact=artifact)
    texts = {EDITABLE: config_pbtxt, **pages}
    for name, render in texts.items():
        (folder / name).write_text(render(manifest), encoding="utf-8")
    files = tuple(recorded(folder, name) for name in sorted((*texts, artifact.file)))
    manifest = msgspec.structs.replace(manifest, files=files)
    write_manifest(folder, manifest)
    return manifest


def _put_in_place(part: Path, path: Path) -> None:
    """Rename ``part`` to ``path``; what was there is removed after that, or is put back."""
    if not os.path.lexists(path):
        part.rename(path)
        return
    aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=_PART))
    before = aside / path.name
    try:
        path.rename(before)
        part.rename(path)
    except BaseException:
        if os.path.lexists(before) and not os.path.lexists(path):
            before.rename(path)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def _reported(expected: str, where: Path) -> Iterator[None]:
    """Turn what the file system raises into an OutputError."""
    try:
        yield
    except OSError as error:
        got = error.strerror or str(error)
        raise OutputError(expected=expected, got=got, where=str(where)) from error


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
