"""A bundle on disk: written whole or not at all, verified and run."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from hasten.bundle.config_pbtxt import config_pbtxt
from hasten.bundle.manifest import Artifact, Evidence, Manifest, PlanRecord
from hasten.errors import BundleError, OutputError
from hasten.graph import TorchSource
from hasten.runtimes import Arrays, Execution, Lowered, Session, get_runtime

__all__ = ["Bundle", "is_bundle", "require_free", "write_bundle"]

_MANIFEST = "bundle.json"
#: Triton keeps each version of a model in a folder named by its number.
_VERSION = "1"


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
        artifact = manifest.artifact
        file = folder / artifact.file
        if not file.resolve().is_relative_to(folder.resolve()):
            raise BundleError(
                expected="a model file inside the bundle", got=artifact.file, where=str(folder)
            )
        if not file.is_file():
            raise BundleError(expected="the model file", got="no such file", where=str(file))
        if file.stat().st_size != artifact.bytes or _sha256(file) != artifact.sha256:
            raise BundleError(
                expected=f"{artifact.bytes} bytes with SHA-256 {artifact.sha256[:12]}...",
                got=f"{file.stat().st_size} bytes with another digest",
                where=str(file),
                hint="the bundle is damaged; make or copy it again",
            )
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


def require_free(path: Path, *, force: bool) -> None:
    """Raise OutputError unless a bundle can be written here: asked before hours of work."""
    if path.exists() and not force:
        raise OutputError(
            expected="a path that is free",
            got="something that exists",
            where=str(path),
            hint="choose another, or give --force to replace it",
        )
    if path.exists() and not is_bundle(path) and not _is_empty_folder(path):
        raise OutputError(
            expected="a bundle to replace",
            got="something that is none",
            where=str(path),
            hint="--force replaces bundles only",
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            expected="a folder that can be written", got=str(error.strerror), where=str(path.parent)
        ) from error


def write_bundle(
    path: Path,
    *,
    name: str,
    lowered: Lowered,
    plan: PlanRecord,
    evidence: Evidence,
    environment: Mapping[str, Any],
    pages: Mapping[str, Callable[[Manifest], str]],
    force: bool = False,
) -> Manifest:
    """Write a bundle beside its place, then rename it into it: whole or not at all.

    ``pages`` are further files by name, each a function from the manifest to text. Raises
    OutputError when the place is taken or cannot be written.
    """
    require_free(path, force=force)
    file = f"{_VERSION}/model.{lowered.format}"
    source = Path(lowered.path)
    artifact = Artifact(
        file=file,
        sha256=_sha256(source),
        bytes=source.stat().st_size,
        format=lowered.format,
    )
    manifest = Manifest(
        name=name,
        signature=lowered.signature,
        artifact=artifact,
        plan=plan,
        evidence=evidence,
        environment=dict(environment),
    )
    try:
        part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            part.chmod(0o755)
            (part / _VERSION).mkdir()
            shutil.copyfile(source, part / file)
            encoded = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
            (part / _MANIFEST).write_bytes(encoded + b"\n")
            (part / "config.pbtxt").write_text(config_pbtxt(manifest), encoding="utf-8")
            for page, render in pages.items():
                (part / page).write_text(render(manifest), encoding="utf-8")
            if path.exists():
                shutil.rmtree(path)
            part.rename(path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            expected="room for a bundle", got=str(error.strerror), where=str(path)
        ) from error
    return manifest


def _read_manifest(path: Path) -> Manifest:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise BundleError(
            expected="a bundle", got=f"no {_MANIFEST} ({error.strerror})", where=str(path.parent)
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BundleError(
            expected="bundle.json of format version 1", got=str(error), where=str(path)
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
