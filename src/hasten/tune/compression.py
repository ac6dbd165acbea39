"""One step alone: what it made of a model, told by figures of both from one run."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from hasten.compress.sparsify import compressed_bytes, zero_share
from hasten.conversion import Agreement, first_noisy
from hasten.data import Metric, OutputScore, Samples, Score
from hasten.data.fidelity import FLOOR_DB
from hasten.data.meaning import OutputKind
from hasten.errors import HastenError, RefusedError, RuntimeFailureError
from hasten.graph import AppliedStep, Model
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.measure.statistics import Interval, Latency, Verdict
from hasten.progress import Progress
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget, is_within
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.compare import compare
from hasten.tune.judge import Judge
from hasten.tune.subject import Subject

__all__ = ["Compression", "Figures", "Measuring", "Pair", "measure_pair"]

#: Each model is judged for its figures; whether it lost too much is for the caller to say.
_ANY_DROP = Budget(max_drop=sys.float_info.max)


#: Samples on which is looked for where noise begins.
_DRIFT_SAMPLES = 4


class Figures(msgspec.Struct, frozen=True):
    """What is known of one model; ``metric`` and ``latency_ms`` are None where not measured.

    ``zero_share`` is of the float weights, and ``compressed_bytes`` is what a zip archive takes:
    there unstructured zeros show.
    """

    label: str
    size_bytes: int
    parameters: int
    zero_share: float
    compressed_bytes: int
    metric: float | None = None
    latency_ms: Latency | None = None
    peak_memory_bytes: int | None = None


class Pair(msgspec.Struct, frozen=True):
    """Two models on one runtime; ``drop`` is of the metric, negative where it gained.

    ``outputs`` are those of the second against the first's.
    """

    runtime: str
    metric: str
    before: Figures
    after: Figures
    drop: float | None = None
    speedup: Interval | None = None
    verdict: Verdict | None = None
    notes: tuple[str, ...] = ()
    outputs: tuple[OutputScore, ...] = ()


class Compression(msgspec.Struct, frozen=True):
    """What a verb wrote, and what it measured; ``unmet`` are goals that were not reached."""

    source: str
    path: str
    steps: tuple[AppliedStep, ...]
    pair: Pair
    agreement: Agreement
    unmet: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Measuring:
    """How two models are judged and timed; no ``rounds``, no timing.

    ``kinds`` are what the user says outputs are, and ``max_drop`` is what the floor beneath them is
    held to.
    """

    validation: Samples
    metric: Metric
    runtime: str
    rounds: int
    seed: int
    scratch: Path
    progress: Progress
    kinds: Mapping[str, OutputKind] = field(default_factory=dict)
    max_drop: float = Budget().max_drop


def measure_pair(before: Model, after: Model, labels: tuple[str, str], how: Measuring) -> Pair:
    """Judge both on the same samples, and time them in paired rounds with an A/A control.

    Raises RefusedError or RuntimeFailureError where the second cannot be run. Where the first
    cannot, its figures are left out, with a note.
    """
    folder = Path(tempfile.mkdtemp(dir=how.scratch, prefix="validation-")) / "samples"
    how.validation.save(folder)
    metric = how.metric
    judge = Judge(
        metric,
        _ANY_DROP,
        how.validation,
        folder,
        how.scratch,
        Deadline.after(None),
        how.kinds,
        how.max_drop,
    )
    one, other = _contestant(before, how), _contestant(after, how)
    notes: list[str] = []
    with how.progress.stage("judging", None):
        if one.racing:
            judge.judge_reference(one)
        else:
            notes.append(f"{labels[0]} was not measured: {one.reason}")
        score = _score(judge, other)
    drop = None if one.score is None or score is None else one.score.value - score.value
    ruins = judge.ruined(other)
    notes += [f"output '{one.output}' ({one.kind}) is ruined: {one.broken}" for one in ruins]
    if ruins or (drop is not None and not is_within(drop, how.max_drop)):
        notes += _drift(before, after, how)
    found = Pair(
        how.runtime,
        metric.name,
        _figures(before, labels[0], one, one.score),
        _figures(after, labels[1], other, score),
        drop,
        notes=tuple(notes),
        outputs=score.outputs if score is not None else (),
    )
    if not (one.racing and how.rounds):
        return found
    return _timed(found, one, other, folder, how)


def _drift(before: Model, after: Model, how: Measuring) -> list[str]:
    """Say where a step's noise begins, if both models are graphs with tensors in common."""
    if before.format != "onnx" or after.format != "onnx":
        return []
    if before.signature.inputs != after.signature.inputs:  # pixels went into the graph
        return []
    some = how.validation.select(range(min(_DRIFT_SAMPLES, len(how.validation))))
    feeds = [feed for feed, _ in some.batches(before.signature, 1)]
    try:
        found = first_noisy(before, after, feeds, how.scratch)
    except HastenError as error:
        return [f"where it begins was not found: {error}"]
    return [f"the first to fall below {FLOOR_DB:g} dB is {found}"] if found else []


def _contestant(model: Model, how: Measuring) -> Contestant:
    execution = Execution(threads=physical_cores(), batch=model.signature.batch or 1)
    made = Contestant(Candidate((), how.runtime, execution), model)
    runtime = get_runtime(how.runtime)
    try:
        reasons = runtime.supports(model)
        if reasons:
            raise RefusedError("; ".join(reasons))
        made.lowered = runtime.lower(model, how.scratch)
    except RefusedError as refused:
        made.drop("refused", str(refused))
    return made


def _score(judge: Judge, contestant: Contestant) -> Score | None:
    """Return the score of the second model; raises where it does not run."""
    if contestant.status == "refused":
        raise RefusedError(contestant.reason)
    if judge.reference_score is None and judge.metric.name == "fidelity":
        return None
    judge.judge(contestant)
    if contestant.score is None:
        raise RuntimeFailureError(contestant.reason)
    return contestant.score


def _timed(found: Pair, one: Contestant, other: Contestant, samples: Path, how: Measuring) -> Pair:
    subjects = []
    for contestant, figures in ((one, found.before), (other, found.after)):
        candidate, lowered = contestant.candidate, contestant.lowered
        if lowered is None:
            return found
        label = f"{figures.label}, {candidate.runtime} {candidate.execution}"
        subjects.append(Subject(label, candidate.runtime, lowered, candidate.execution, samples))
    timed = compare(
        *subjects, rounds=how.rounds, seed=how.seed, scratch=how.scratch, progress=how.progress
    )
    before, after = (
        msgspec.structs.replace(
            figures, latency_ms=bench.latency_ms, peak_memory_bytes=bench.peak_memory_bytes
        )
        for figures, bench in ((found.before, timed.a), (found.after, timed.b))
    )
    return msgspec.structs.replace(
        found,
        before=before,
        after=after,
        speedup=timed.speedup,
        verdict=timed.verdict,
        notes=(*found.notes, *timed.b.notes),
    )


def _figures(model: Model, label: str, contestant: Contestant, score: Score | None) -> Figures:
    return Figures(
        label,
        size_bytes=contestant.size_bytes or len(model.payload),
        parameters=sum(math.prod(tensor.dims) for tensor in model.graph.graph.initializer),
        zero_share=zero_share(model.graph),
        compressed_bytes=compressed_bytes(model),
        metric=None if score is None else score.value,
    )
