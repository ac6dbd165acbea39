"""A model that was found and can be served: its versions, settings, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hasten.errors import InputError, ModelError
from hasten.graph.rows import UNREAD, RowVerdict
from hasten.runtimes import Execution, Lowered
from hasten.serve.engine.settings import ServingSettings
from hasten.serve.repository.config_pbtxt import ModelConfig

__all__ = ["Found", "Servable", "VersionSource", "require_name"]


@dataclass(frozen=True)
class VersionSource:
    """One version of a model on disk, and how it is run.

    ``artifact_digest`` is the SHA-256 of what decides its answers, in hex: of the model file, with
    the weights that an .onnx keeps beside it. The signature of ``lowered`` has the dimensions that
    config.pbtxt asks for where the model leaves them free. ``alternatives`` are executions to be
    timed against this one where nothing has chosen it yet. ``rows`` says whether rows are
    independent as far as the graph tells.
    """

    lowered: Lowered
    runtime: str
    execution: Execution
    artifact_digest: str
    alternatives: tuple[Execution, ...] = ()
    rows: RowVerdict = UNREAD


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
class Found:
    """What is at the paths: models sorted by name, and by name what cannot be served, and why.

    ``named`` are those to which a path of their own led: the user wants these and no others.
    """

    models: tuple[Servable, ...]
    refused: dict[str, InputError] = field(default_factory=dict)
    named: frozenset[str] = frozenset()


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
