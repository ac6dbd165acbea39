"""A version of a model on disk, and how it is to be run and served."""

from __future__ import annotations

from dataclasses import dataclass, field

from hasten.graph import Signature
from hasten.graph.rows import UNREAD, RowVerdict
from hasten.runtimes import Execution, Lowered
from hasten.serve.engine.settings import ServingSettings

__all__ = ["ModelSource"]


@dataclass(frozen=True)
class ModelSource:
    """A version of a model on disk, and how it is to be run and served.

    ``signature`` is what clients see: that of ``lowered``, but for tensors that are reshaped.
    ``alternatives`` are executions that are timed against ``execution``, and the best is taken.
    ``digest`` is the SHA-256 of its file, in hex; ``labels`` name the classes of outputs, and
    ``formats`` the layouts of inputs in Triton's words. ``rows`` says whether rows are independent
    as far as the graph tells.
    """

    name: str
    version: int
    lowered: Lowered
    signature: Signature
    runtime: str
    execution: Execution
    settings: ServingSettings
    digest: str
    labels: dict[str, tuple[str, ...]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    alternatives: tuple[Execution, ...] = ()
    rows: RowVerdict = UNREAD
