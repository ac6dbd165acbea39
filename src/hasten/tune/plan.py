"""The plan that won, with its evidence: everything a bundle holds, still in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hasten.bundle.manifest import (
    BudgetRecord,
    CandidateRecord,
    Evidence,
    LedgerEntry,
    PlanRecord,
    Side,
)
from hasten.compress import applied
from hasten.data import loss
from hasten.measure.environment import environment
from hasten.measure.rounds import Target
from hasten.tune.candidate import Contestant
from hasten.tune.judge import Judge
from hasten.tune.race import Outcome

__all__ = ["Plan", "make_plan"]


@dataclass(frozen=True, eq=False)
class Plan:
    """The contestant that won, and the evidence for it."""

    name: str
    chosen: Contestant
    record: PlanRecord
    evidence: Evidence
    environment: dict[str, object]


def make_plan(
    name: str,
    *,
    reference: Contestant,
    contestants: Sequence[Contestant],
    outcome: Outcome,
    ledger: Sequence[LedgerEntry],
    judge: Judge,
    target: Target,
) -> Plan:
    """Put the winner and what was measured of every contestant together."""
    chosen = outcome.winner
    evidence = Evidence(
        reference=_side(reference, target),
        chosen=_side(chosen, target),
        speedup=outcome.speedup,
        drop=judge.drop_of(chosen),
        budget=_budget(judge),
        unmet=tuple(_unmet(chosen, judge, target)),
        candidates=tuple(_ranked(reference, contestants, target)),
        ledger=tuple(ledger),
        control=outcome.control,
        verdict=_sentence(reference, outcome, judge, target),
        placement=chosen.placement,
        notes=tuple(outcome.notes),
        outputs=chosen.score.outputs if chosen.score else (),
        frontier=outcome.frontier,
    )
    return Plan(name, chosen, _record(chosen, judge), evidence, environment())


def _record(chosen: Contestant, judge: Judge) -> PlanRecord:
    return PlanRecord(
        steps=tuple(applied(step) for step in chosen.candidate.steps),
        runtime=chosen.candidate.runtime,
        execution=msgspec.to_builtins(chosen.candidate.execution),
        serving={
            "max_batch_size": _max_batch(chosen),
            "preprocessing": _preprocessing(chosen, judge),
            **_warmup(chosen, judge),
        },
    )


def _budget(judge: Judge) -> BudgetRecord:
    budget = judge.budget
    return BudgetRecord(
        metric=judge.metric.name,
        max_drop=budget.max_drop,
        latency_ms=budget.latency_ms,
        size_bytes=budget.size_bytes,
        memory_bytes=budget.memory_bytes,
    )


def _max_batch(chosen: Contestant) -> int:
    """Return Triton's max_batch_size: 0 where the model's first axis is not a free batch."""
    if chosen.lowered is None or chosen.lowered.signature.batch is not None:
        return 0
    return chosen.candidate.execution.batch


def _warmup(chosen: Contestant, judge: Judge) -> dict[str, object]:
    """Return what inputs are like, where the signature does not say it: sizes and whole numbers.

    Of the samples themselves nothing is kept.
    """
    if chosen.lowered is None:
        return {}
    signature = chosen.lowered.signature
    feed = judge.validation.feed(signature, range(judge.validation.per_feed(signature) or 1))
    inputs: dict[str, dict[str, object]] = {}
    for spec in signature.inputs:
        value = feed[spec.name]
        if value.dtype.kind in "iu" and value.size:
            inputs[spec.name] = {"low": int(value.min()), "high": int(value.max())}
        if None in spec.shape[1:]:
            size = list(value.shape[1:] if spec.batch is None else value.shape)
            inputs[spec.name] = {"dims": size, **inputs.get(spec.name, {})}
    return {"model_warmup": [{"name": "samples", "inputs": inputs}]} if inputs else {}


def _preprocessing(chosen: Contestant, judge: Judge) -> dict[str, object]:
    """By input, what is still to be done to pixels before the model takes them."""
    inputs = chosen.lowered.signature.inputs if chosen.lowered else ()
    return {
        spec.name: msgspec.to_builtins(judge.validation.preprocessing[spec.name])
        for spec in inputs
        if spec.name in judge.validation.preprocessing and spec.dtype != "uint8"
    }


def _side(contestant: Contestant, target: Target) -> Side:
    return Side(
        label=contestant.label,
        latency_ms=contestant.measurement.latency(target),
        metric=contestant.score.value if contestant.score else None,
        size_bytes=contestant.size_bytes or 0,
        peak_memory_bytes=contestant.measurement.peak_memory_bytes,
    )


def _ranked(
    reference: Contestant, contestants: Sequence[Contestant], target: Target
) -> list[CandidateRecord]:
    """All candidates and the reference: the winner first, then by speed, unmeasured ones last."""
    records = [contestant.record(target) for contestant in [*contestants, reference]]
    return sorted(
        _gathered(records),
        key=lambda record: (
            record.status != "won",
            -(record.speedup.median if record.speedup else 0.0),
            record.label,
        ),
    )


def _gathered(records: Sequence[CandidateRecord]) -> list[CandidateRecord]:
    """Keep one of those never measured that share steps and reason; it says how many it is."""
    kept: list[CandidateRecord] = []
    alike: dict[tuple[object, ...], list[CandidateRecord]] = {}
    for record in records:
        if record.latency_ms is not None:
            kept.append(record)
        else:
            key = (record.status, record.reason, str(record.steps))
            alike.setdefault(key, []).append(record)
    for first, *others in alike.values():
        also = f" (and {len(others)} more ways to run these steps)" if others else ""
        kept.append(msgspec.structs.replace(first, reason=first.reason + also))
    return kept


def _unmet(chosen: Contestant, judge: Judge, target: Target) -> list[str]:
    budget = judge.budget
    unmet = []
    latency_ms = chosen.measurement.latency(target).p50
    if budget.latency_ms is not None and latency_ms > budget.latency_ms:
        unmet.append(f"latency {latency_ms:.3g} ms, at most {budget.latency_ms:g} ms asked for")
    size = chosen.size_bytes
    if budget.size_bytes is not None and size is not None and size > budget.size_bytes:
        unmet.append(f"size {size / 1e6:.2f} MB, at most {budget.size_bytes / 1e6:g} MB asked for")
    memory = chosen.measurement.peak_memory_bytes
    if budget.memory_bytes is not None and memory > budget.memory_bytes:
        unmet.append(
            f"memory {memory / 1e6:.0f} MB, at most {budget.memory_bytes / 1e6:g} MB asked for"
        )
    return unmet


def _sentence(reference: Contestant, outcome: Outcome, judge: Judge, target: Target) -> str:
    chosen = outcome.winner
    if chosen is reference:
        return f"The reference stays ({reference.label}): nothing else was measurably better."
    gain = outcome.speedup
    how = (
        "gives {:.2f} times the throughput of"
        if target == "throughput"
        else ("runs {:.2f} times as fast as")
    )
    return (
        f"The model {how.format(gain.median)} the reference (95 % interval {gain.low:.2f} to"
        f" {gain.high:.2f}){_kept(judge, chosen)}: {chosen.label}, against {reference.label}."
    )


def _kept(judge: Judge, chosen: Contestant) -> str:
    """Say what became of the metric."""
    drop = judge.drop_of(chosen)
    if drop is None:
        return ""
    if drop == 0:
        return f" at the same {judge.metric.name}"
    return f" and {loss(judge.metric.name, drop)}"
