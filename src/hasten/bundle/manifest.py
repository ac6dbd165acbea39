"""bundle.json: what is deployed and the evidence for it, as typed records (format version 1)."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from hasten.data import OutputScore
from hasten.graph import AppliedStep, Signature
from hasten.graph.rows import RowVerdict
from hasten.measure.statistics import Interval, Latency
from hasten.runtimes import Format, Placement

__all__ = [
    "Artifact",
    "BudgetRecord",
    "CandidateRecord",
    "Evidence",
    "FileRecord",
    "Interval",
    "Latency",
    "LedgerEntry",
    "Manifest",
    "PlanRecord",
    "PrecisionPoint",
    "Side",
    "Status",
]

Status = Literal["won", "lost", "over_budget", "failed", "refused"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """The reference or the chosen candidate, as measured."""

    label: str
    latency_ms: Latency
    metric: float | None
    size_bytes: int
    peak_memory_bytes: int


class CandidateRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate: what it was, how it ended, and why."""

    label: str
    steps: tuple[AppliedStep, ...]
    runtime: str
    execution: dict[str, Any]
    status: Status
    reason: str = ""
    latency_ms: Latency | None = None
    speedup: Interval | None = None
    metric: float | None = None
    metric_details: dict[str, float] = {}
    #: Each output against the reference's, where it was judged.
    outputs: tuple[OutputScore, ...] = ()
    size_bytes: int | None = None
    peak_memory_bytes: int | None = None


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One part's own share: the chosen plan against the same plan without it."""

    step: str
    speedup: Interval | None
    metric_change: float | None
    size_change_bytes: int
    note: str = ""


class PrecisionPoint(msgspec.Struct, frozen=True, kw_only=True):
    """One mixture of int8 and float blocks: what it loses of the metric, and how fast it is.

    ``speedup`` is over the same plan with all of its ``blocks`` in int8; ``drop`` is against the
    reference, negative where the metric gained.
    """

    runtime: str
    float_blocks: tuple[str, ...]
    blocks: int
    drop: float
    latency_ms: float
    speedup: Interval
    size_bytes: int | None = None


class BudgetRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the user allowed: how much of the metric may be lost, and the goals to reach."""

    metric: str
    max_drop: float
    latency_ms: float | None = None
    size_bytes: int | None = None
    memory_bytes: int | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """The model file of a bundle, relative to the bundle's folder.

    ``rows`` says whether its rows are independent as far as its graph tells; None in bundles of
    earlier versions.
    """

    file: str
    sha256: str
    bytes: int
    format: Format
    rows: RowVerdict | None = None


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a bundle, relative to the bundle's folder."""

    file: str
    sha256: str
    bytes: int


class PlanRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What to deploy: the steps applied, who runs it, and with which settings."""

    steps: tuple[AppliedStep, ...]
    runtime: str
    execution: dict[str, Any]
    serving: dict[str, Any] = {}


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured, for every candidate that was thought of."""

    reference: Side
    chosen: Side
    speedup: Interval
    drop: float | None
    budget: BudgetRecord
    unmet: tuple[str, ...]
    candidates: tuple[CandidateRecord, ...]
    ledger: tuple[LedgerEntry, ...]
    control: Interval | None = None
    verdict: str = ""
    placement: Placement | None = None
    notes: tuple[str, ...] = ()
    #: Each output of the chosen plan against the reference's: what it is taken for, what is kept.
    outputs: tuple[OutputScore, ...] = ()
    #: Mixtures of int8 and float blocks that no other is both faster and more accurate than.
    frontier: tuple[PrecisionPoint, ...] = ()


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of bundle.json."""

    format_version: Literal[1] = 1
    name: str
    signature: Signature
    artifact: Artifact
    plan: PlanRecord
    evidence: Evidence
    environment: dict[str, Any]
    #: Every file of the bundle but bundle.json and its signature; none from before 0.2.
    files: tuple[FileRecord, ...] = ()
