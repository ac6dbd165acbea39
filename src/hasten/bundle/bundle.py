"""A bundle on disk: written whole or not at all, verified and run."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hasten.bundle.config_pbtxt import config_pbtxt
from hasten.bundle.manifest import Artifact, Evidence, Manifest, PlanRecord
from hasten.errors import BundleError, OutputError
from hasten.graph import TorchSource
from hasten.graph.rows import RowVerdict
from hasten.runtimes import RUNTIMES, Arrays, Execution, Lowered, Session, get_runtime

__all__ = ["Bundle", "is_bundle", "read_manifest", "require_free", "write_bundle"]

_MANIFEST = "bundle.json"
#: Triton keeps each version of a model in a folder named by its number.
_VERSION = "1"
#: How the names of folders begin that exist only while a bundle is being written.
_PART = ".hasten-"


class Bundle:
    """An opened bundle: its manifest, and its model ready to run.

    Use it as a context manager, or call ``close``. One thread at a time may call ``run``.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._session: Session | None = None

    @classmethod
    def open(cls, path: str | Path) -> Bundle:
        """Read and verify a bundle; raises BundleError when it is damaged or incomplete."""
        folder = Path(path)
        manifest = _read_manifest(folder / _MANIFEST)
        _require_plan(manifest, folder / _MANIFEST)
        _require_artifact(manifest.artifact, folder)
        return cls(folder, manifest)

    @property
    def lowered(self) -> Lowered:
        """The model file as its runtime opens it."""
        manifest = self.manifest
        path = str((self.path / manifest.artifact.file).resolve())
        torch = None
        if manifest.artifact.format == "pt2":
            inputs = tuple(spec.name for spec in manifest.signature.inputs)
            outputs = tuple(spec.name for spec in manifest.signature.outputs)
            torch = TorchSource(path, inputs, outputs)
        return Lowered(path, manifest.artifact.format, manifest.signature, torch)

    @property
    def execution(self) -> Execution:
        """The settings the plan runs with."""
        return msgspec.convert(self.manifest.plan.execution, Execution)

    def run(self, feed: Mapping[str, Any]) -> Arrays:
        """Run the model once: arrays by input name in, arrays by output name out.

        Raises RuntimeFailureError when the runtime cannot open or run it.
        """
        if self._session is None:
            runtime = get_runtime(self.manifest.plan.runtime)
            self._session = runtime.open(self.lowered, self.execution)
        return self._session.run(dict(feed))

    def close(self) -> None:
        """Free the session; a later ``run`` opens another."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def __enter__(self) -> Bundle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_bundle(path: Path) -> bool:
    """Whether there is a bundle at this path."""
    return (path / _MANIFEST).is_file()


def read_manifest(path: Path) -> Manifest:
    """Read what a bundle says of itself, and none of its other files; raises BundleError."""
    return _read_manifest(path / _MANIFEST)


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
    name, each a function from the manifest to text. With ``force``
    a bundle that is there stays until the new one is complete. Raises OutputError when the place
    is taken or cannot be written.
    """
    require_free(path, force=force)
    with _reported("room for a bundle", path):
        manifest = Manifest(
            name=name,
            signature=lowered.signature,
            artifact=_artifact(lowered, rows),
            plan=plan,
            evidence=evidence,
            environment=dict(environment),
        )
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=_PART))
        try:
            part.chmod(0o755)
            _fill(part, manifest, Path(lowered.path), pages)
            _put_in_place(part, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return manifest


def _artifact(lowered: Lowered, rows: RowVerdict | None) -> Artifact:
    source = Path(lowered.path)
    return Artifact(
        file=f"{_VERSION}/model.{lowered.format}",
        sha256=_sha256(source),
        bytes=source.stat().st_size,
        format=lowered.format,
        rows=rows,
    )


def _fill(
    folder: Path,
    manifest: Manifest,
    model: Path,
    pages: Mapping[str, Callable[[Manifest], str]],
) -> None:
    """Write every file of a bundle into an empty folder."""
    (folder / _VERSION).mkdir()
    shutil.copyfile(model, folder / manifest.artifact.file)
    encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (folder / _MANIFEST).write_bytes(encoded + b"\n")
    (folder / "config.pbtxt").write_text(config_pbtxt(manifest), encoding="utf-8")
    for page, render in pages.items():
        (folder / page).write_text(render(manifest), encoding="utf-8")


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


def _read_manifest(path: Path) -> Manifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise BundleError(
            expected="a bundle", got=f"no {_MANIFEST} ({error.strerror})", where=str(path.parent)
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(error, path) from error


def _require_plan(manifest: Manifest, where: Path) -> None:
    """Raise BundleError unless this release knows the runtime and the settings of the plan."""
    runtime = manifest.plan.runtime
    if runtime not in RUNTIMES:
        known = f"a runtime of this release: {', '.join(RUNTIMES)}"
        raise BundleError(expected=known, got=repr(runtime), where=f"{where}: plan.runtime")
    try:
        msgspec.convert(manifest.plan.execution, Execution)
    except msgspec.ValidationError as error:
        raise _damaged(error, where) from error


def _require_artifact(artifact: Artifact, folder: Path) -> None:
    """Raise BundleError unless the model file is inside the bundle and the one that was written."""
    where = str(folder / artifact.file)
    try:
        file = (folder / artifact.file).resolve(strict=True)
        if not file.is_relative_to(folder.resolve()):
            raise BundleError(
                expected="a model file inside the bundle", got=str(file), where=str(folder)
            )
        if not file.is_file():
            raise BundleError(expected="a model file", got="something else", where=where)
        size, digest = file.stat().st_size, _sha256(file)
    except OSError as error:
        got = error.strerror or str(error)
        raise BundleError(expected="the model file", got=got, where=where) from error
    except (ValueError, RuntimeError) as error:  # a null byte, a loop of links
        raise BundleError(expected="the model file", got=str(error), where=repr(where)) from error
    if (size, digest) != (artifact.bytes, artifact.sha256):
        raise BundleError(
            expected=f"{artifact.bytes} bytes with SHA-256 {artifact.sha256[:12]!r}...",
            got=f"{size} bytes with {digest[:12]!r}...",
            where=where,
            hint="the bundle is damaged; make or copy it again",
        )


def _damaged(error: Exception, where: Path) -> BundleError:
    return BundleError(expected="bundle.json of format version 1", got=str(error), where=str(where))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
