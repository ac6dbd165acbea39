"""What steps made, kept from one run to the next by the content of all that decides it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import hasten
from hasten.cache_folder import cache_folder, private_folder
from hasten.compress import Context, StepConfig
from hasten.errors import OutputError, one_line
from hasten.graph import AppliedStep, Model, Signature, write_whole
from hasten.tune.stopwatch import RuntimeStopwatch

__all__ = ["Lookup", "StepCache", "step_key"]

_FORMAT = 2
#: Beyond this, results that were not used for longest go.
_CAPACITY_BYTES = 4 * 2**30
#: Packages whose release may change what a step makes.
_PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxslim", "torch")
#: Rooms of this package whose source may: a checkout changes without its version.
_ROOMS = ("compress", "data", "graph", "runtimes", "train")


class Lookup(NamedTuple):
    """What was found under a key: nothing, or a model, with its ``unfolded`` twin if it has one.

    ``notes`` are what the step had to tell, and ``damage`` what there is to say of the entry.
    """

    model: Model | None = None
    unfolded: Model | None = None
    notes: tuple[str, ...] = ()
    damage: str = ""


class _Part(msgspec.Struct, frozen=True):
    size_bytes: int
    signature: Signature
    step: AppliedStep


class _Head(msgspec.Struct, frozen=True):
    """The second line of an entry; the bytes of its one or two models follow it.

    The first line is the SHA-256, in hex, of all that follows: of this head as well.
    """

    format: int
    parts: tuple[_Part, ...]
    notes: tuple[str, ...] = ()


class StepCache:
    """A folder of models, a file for each, named by the key of the step that made it.

    Files are written whole or not at all, and their digest is checked when they are read.
    """

    def __init__(self, folder: Path, *, capacity_bytes: int = _CAPACITY_BYTES) -> None:
        self._folder = folder
        self._capacity_bytes = capacity_bytes

    @classmethod
    def of_user(cls) -> StepCache:
        """Return the one in the cache folder."""
        return cls(cache_folder() / "steps")

    def problem(self) -> str:
        """Say why nothing can be kept here, or nothing; makes the folder."""
        try:
            private_folder(self._folder)
            tempfile.TemporaryFile(dir=self._folder).close()
        except OSError as error:
            return f"the step cache cannot be used: {one_line(error)}"
        return ""

    def find(self, key: str, before: Model, unfolded: Model | None = None) -> Lookup:
        """Return what the step of this key made of ``before``, and of its unfolded twin.

        A damaged entry is removed.
        """
        path = self._path(key)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return Lookup()
        except OSError as error:
            return Lookup(damage=f"the step cache cannot be read: {one_line(error)}")
        head, found = _decoded(content, [before, unfolded or before])
        if head is None:
            path.unlink(missing_ok=True)
            return Lookup(damage=f"a damaged entry of the step cache was made anew: {path.name}")
        os.utime(path)  # the time of its last use, which says what goes first
        return Lookup(found[0], found[1] if len(found) > 1 else None, head.notes)

    def keep(
        self, key: str, made: Model, unfolded: Model | None = None, notes: Sequence[str] = ()
    ) -> str:
        """Write what a step made; returns why it could not be kept, or nothing."""
        models = [made] if unfolded is None else [made, unfolded]
        content = b"".join(model.payload for model in models)
        head = _Head(
            _FORMAT,
            tuple(_Part(len(one.payload), one.signature, one.steps[-1]) for one in models),
            tuple(notes),
        )
        try:
            private_folder(self._folder)
            entry = msgspec.json.encode(head) + b"\n" + content
            digest = hashlib.sha256(entry).hexdigest().encode()
            write_whole(self._path(key), digest + b"\n" + entry, mode=0o600)
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
        _stopwatch(context) if config.effect.timed else None,
        _versions(),
    ]
    return hashlib.sha256(msgspec.json.encode(parts, order="sorted")).hexdigest()


def _teacher(teacher: Any) -> str:
    return teacher.digest if isinstance(teacher, Model) else str(teacher)


def _stopwatch(context: Context) -> str:
    watch = context.stopwatch
    return f"{watch.runtime} {watch.execution}" if isinstance(watch, RuntimeStopwatch) else ""


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


def _decoded(content: bytes, before: Sequence[Model]) -> tuple[_Head | None, list[Model]]:
    """Return the head of an entry and its models; nothing where it is not as it was written."""
    import onnx

    digest, _, entry = content.partition(b"\n")
    if digest != hashlib.sha256(entry).hexdigest().encode():
        return None, []
    line, _, payload = entry.partition(b"\n")
    try:
        head = msgspec.json.decode(line, type=_Head)
    except msgspec.DecodeError:
        return None, []
    if head.format != _FORMAT:
        return None, []
    found, at = [], 0
    for part, source in zip(head.parts, before, strict=False):
        proto = onnx.ModelProto.FromString(payload[at : at + part.size_bytes])
        found.append(source.evolve(proto, part.signature, part.step))
        at += part.size_bytes
    return head, found
