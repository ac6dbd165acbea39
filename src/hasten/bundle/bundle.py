"""A bundle on disk: verified when it is opened, and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from hasten.bundle.contents import MANIFEST, inside, require_files, some, unlisted
from hasten.bundle.execution import settled
from hasten.bundle.manifest import Manifest
from hasten.bundle.own_weights import require_own_weights
from hasten.bundle.signing import signer
from hasten.errors import BundleError
from hasten.graph import TorchSource
from hasten.plain_file import read_plain
from hasten.runtimes import Arrays, Execution, Lowered, Session, get_runtime

__all__ = ["Bundle", "OpenBundle", "is_bundle", "manifest_and_bytes", "read_manifest"]

#: How a bundle is opened: ``Bundle.open``, with what the user allows it.
OpenBundle: TypeAlias = "Callable[[Path], Bundle]"


class Bundle:
    """An opened bundle: its manifest, and its model ready to run.

    ``execution`` are the settings that the plan runs with on this machine, ``signed_by`` is the
    trusted key that signed it, in hex, and ``notes`` say what there is to say of it. Use it as a
    context manager, or call ``close``. One thread at a time may call ``run``.
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        execution: Execution,
        signed_by: str = "",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.execution = execution
        self.signed_by = signed_by
        self.notes = notes
        self._session: Session | None = None

    @classmethod
    def open(
        cls, path: str | Path, *, trust: Sequence[str | Path] = (), delegate: str | None = None
    ) -> Bundle:
        """Read and verify a bundle: its model and all of its files are those that were written.

        ``trust`` are public keys, or folders of them, whose owners may name a delegate: a library,
        which runs with the rights of this process. ``delegate`` is one that the caller names, for a
        bundle that wants one. Nothing outside the folder is read, and nothing in it that is not
        listed in the manifest.

        Raises BundleError when it is damaged, incomplete, wants what is not allowed or was changed
        after it was signed.
        """
        folder = Path(path)
        manifest, content = manifest_and_bytes(folder)
        signed_by = signer(folder, content, trust)
        where = str(folder / MANIFEST)
        how = settled(manifest, where, delegate=delegate, trusted=bool(signed_by))
        edited = require_files(manifest, folder)
        if edited and signed_by:
            raise BundleError(
                expected=f"{edited[0]} as it was signed",
                got="another one",
                where=str(folder),
                hint="sign it again as it is now: hasten bundle sign",
            )
        if manifest.artifact.format == "onnx":
            require_own_weights(inside(folder, manifest.artifact.file, "model file"))
        return cls(
            folder, manifest, how.execution, signed_by, (*how.notes, *_strays(folder, manifest))
        )

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
    try:
        return (path / MANIFEST).is_file()
    except (OSError, ValueError):  # a name that is too long, or no name
        return False


def read_manifest(folder: Path) -> Manifest:
    """Read what a bundle says of itself, and none of its other files; raises BundleError."""
    return manifest_and_bytes(folder)[0]


def manifest_and_bytes(folder: Path) -> tuple[Manifest, bytes]:
    """Return bundle.json and its bytes; raises BundleError where it is damaged or not there."""
    if not is_bundle(folder):
        got = _why_none(folder)
        raise BundleError(expected="a bundle", got=f"no {MANIFEST} ({got})", where=str(folder))
    path = inside(folder, MANIFEST, "manifest")
    content = read_plain(path, expected=f"{MANIFEST}, a manifest", error=BundleError)
    try:
        return msgspec.json.decode(content, type=Manifest), content
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(
            expected=f"{MANIFEST} of format version 1",
            got=str(error),
            where=str(folder / MANIFEST),
        ) from error


def _why_none(folder: Path) -> str:
    try:
        (folder / MANIFEST).stat()
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return str(error)
    return "it is no regular file"


def _strays(folder: Path, manifest: Manifest) -> tuple[str, ...]:
    """Say what lies in the folder and is not read; old bundles list nothing."""
    if not manifest.files:
        return ()
    names = unlisted(manifest, folder)
    return (f"not read, for the bundle does not list it: {some(names)}",) if names else ()
