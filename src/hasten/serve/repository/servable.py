"""Where a model lies, and what it is once opened: versions, settings, and what was left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hasten.errors import InputError, ModelError
from hasten.graph.rows import UNREAD, RowVerdict
from hasten.runtimes import Execution, Lowered
from hasten.serve.engine.settings import ServingSettings
from hasten.serve.repository.config_pbtxt import ModelConfig

__all__ = ["SERVED", "Found", "Place", "Servable", "VersionSource", "require_name", "unreadable"]

#: What a path may be that is given to the server.
SERVED = "a bundle, a .onnx or .tflite file, a folder of them, or a Triton repository"


@dataclass(frozen=True)
class VersionSource:
    """One version of a model on disk, and how it is run.

    ``artifact_digest`` is the SHA-256 of what decides its answers, in hex: of the model file, with
    the weights that an .onnx keeps beside it. The signature of ``lowered`` has the dimensions that
    config.pbtxt asks for where the model leaves them free. ``alternatives`` are executions to be
    timed against this one where nothing has chosen it yet. ``rows`` says whether rows are
    independent as far as the graph tells, ``report`` is the page of its bundle.
    """

    lowered: Lowered
    runtime: str
    execution: Execution
    artifact_digest: str
    alternatives: tuple[Execution, ...] = ()
    rows: RowVerdict = UNREAD
    report: Path | None = None


@dataclass(frozen=True)
class Servable:
    """A model with its versions by number, all of which are to be served.

    ``config`` is what config.pbtxt says, where there is one that was read: tensors with their
    ``reshape``, and parameters. ``labels`` are the names of classes by output, from its
    ``label_filename``. ``preprocessing`` is what a bundle says is still to be done to pixels, by
    input. ``notes`` say what was found and is not served, or served otherwise than written.
    """

    name: str
    versions: dict[int, VersionSource]
    settings: ServingSettings
    notes: tuple[str, ...] = ()
    config: ModelConfig | None = None
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a model lies; its files are read when it is opened, and not before."""

    name: str
    path: Path
    opener: Callable[[], Servable]

    def open(self) -> Servable:
        """Read and check the model; raises an InputError in one line where it cannot be served."""
        try:
            model = self.opener()
        except (OSError, ValueError) as error:
            raise unreadable(self.path, error) from None
        if model.name != self.name:
            raise ModelError(
                expected=f"the model {self.name!r} that was found here",
                got=f"{model.name!r}: it was changed meanwhile",
                where=str(self.path),
            )
        return model


@dataclass(frozen=True)
class Found:
    """What is at the paths: the places of models by name, and what cannot be served, and why.

    ``named`` are those to which a path of their own led: the user wants these and no others.
    """

    places: dict[str, Place]
    refused: dict[str, InputError] = field(default_factory=dict)
    named: frozenset[str] = frozenset()


def unreadable(path: Path, error: OSError | ValueError) -> ModelError:
    """Say why there is nothing to be read; a ValueError is a null byte in the path."""
    if isinstance(error, OSError):
        where = str(error.filename or path)
        return ModelError(expected=SERVED, got=error.strerror or str(error), where=where)
    return ModelError(expected=SERVED, got=str(error), where=repr(str(path)))


def require_name(name: str, where: str) -> str:
    """Return the name of a model; raises ModelError for one that cannot be part of a URL's path."""
    if name in {"", ".", ".."} or not name.isprintable() or "/" in name or "\\" in name:
        raise ModelError(
            expected="a model name without slashes and control characters",
            got=repr(name),
            where=where,
            hint="rename it: the name is part of the URL",
        )
    return name
