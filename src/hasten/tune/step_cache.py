"""What steps made, kept from one run to the next by the content of all that decides it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import hasten
from hasten.compress import Context, StepConfig
from hasten.errors import OutputError, one_line
from hasten.graph import AppliedStep, Model, Signature, write_whole

__all__ = ["Lookup", "StepCache", "step_key"]

_FORMAT = 1
#: Beyond this, results that were not used for longest go.
_CAPACITY_BYTES = 4 * 2**30
#: Packages whose release may change what a step makes.
_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxslim", "torch")
#: Rooms of this package whose source may: a checkout changes without its version.
_ROOMS = ("compress", "data", "graph", "runtimes", "train")


class Lookup(NamedTuple):
    """What was found under a key: a model, or none, and what there is to say of it."""

    model: Model | None = None
    note: str = ""


class _Head(msgspec.Struct, frozen=True):
    """The first line of an entry; the model's bytes follow it."""

    format: int
    sha256: str
    signature: Signature
    step: AppliedStep


class StepCache:
    """A folder of models, a file for each, named by the key of the step that made it.

    Files are written whole or not at all, and their digest is checked when they are read.
    """

    def __init__(self, folder: Path, *, capacity_bytes: int = _CAPACITY_BYTES) -> None:
        self._folder = folder
        self._capacity_bytes = capacity_bytes

    def find(self, key: str, before: Model) -> Lookup:
        """Return what the step of this key made of ``before``; a damaged entry is removed."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Lookup()
        except OSError as error:
            return Lookup(note=f"the step cache cannot be read: {one_line(error)}")
        found = _decoded(content, before)
        if found is None:
            path.unlink(missing_ok=True)
            return Lookup(note=f"an entry of the step cache was damaged and made anew: {path.name}")
        os.utime(path)  # the time of its last use, which says what goes first
        return Lookup(found)

    def keep(self, key: str, made: Model) -> str:
        """Write what a step made; returns why it could not be kept, or nothing."""
        digest = hashlib.sha256(made.payload).hexdigest()
        head = msgspec.json.encode(_Head(_FORMAT, digest, made.signature, made.steps[-1]))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_whole(self._path(key), head + b"\n" + made.payload)
            self._make_room()
        except (OutputError, OSError) as error:
            return f"the step cache cannot be written: {one_line(error)}"
        return ""

    def checkpoints(self, key: str) -> Path:
        """Return the folder in which a step of this key keeps its state while it trains."""
        return self._folder / "checkpoints" / key

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.model"

    def _make_room(self) -> None:
        entries = [(path.stat(), path) for path in self._folder.glob("*.model")]
        left = sum(status.st_size for status, _ in entries)
        for status, path in sorted(entries, key=lambda entry: entry[0].st_mtime_ns):
            if left <= self._capacity_bytes:
                return
            path.unlink(missing_ok=True)
            left -= status.st_size


def step_key(before: Model, config: StepConfig, context: Context) -> str:
    """Return SHA-256, in hex, of all that decides what a step makes of a model.

    That is the graph, the settings, the samples, the teacher, and the versions of the code: a
    result that could be another one is never taken for it.
    """
    samples = (context.calibration, context.training)
    parts = [
        _FORMAT,
        before.digest,
        msgspec.to_builtins(config),
        [None if one is None else one.digest for one in samples],
        {name: msgspec.to_builtins(one) for name, one in context.preprocessing.items()},
        _teacher(context.teacher),
        _versions(),
    ]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _teacher(teacher: Any) -> str:
    return teacher.digest if isinstance(teacher, Model) else str(teacher)


@cache
def _versions() -> dict[str, str]:
    found = {"hasten": _source_digest()}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _source_digest() -> str:
    sha = hashlib.sha256()
    for path in _sources(Path(hasten.__file__).parent):
        sha.update(path.read_bytes())
    return sha.hexdigest()


def _sources(package: Path) -> Iterator[Path]:
    for room in _ROOMS:
        yield from sorted((package / room).rglob("*.py"))


def _decoded(content: bytes, before: Model) -> Model | None:
    """Return the model of an entry; None where its bytes are not what was written."""
    line, _, payload = content.partition(b"\n")
    try:
        head = msgspec.json.decode(line, type=_Head)
    except msgspec.DecodeError:
        return None
    if head.format != _FORMAT or hashlib.sha256(payload).hexdigest() != head.sha256:
        return None
    import onnx

    proto = onnx.ModelProto.FromString(payload)
    return before.evolve(proto, head.signature, head.step)
