"""The ledger: each part's own share of the gain, by removing it and measuring again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hasten.bundle.manifest import LedgerEntry
from hasten.compress import applied
from hasten.measure.clock import Deadline
from hasten.measure.statistics import Interval
from hasten.progress import Progress
from hasten.runtimes import Execution
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.heat import Heats
from hasten.tune.judge import Judge

__all__ = ["parts_of", "write_ledger"]

_ROUNDS = 8


def parts_of(chosen: Candidate, reference: Candidate) -> list[tuple[str, Candidate]]:
    """Name each part of a plan, with the plan that lacks it and nothing else.

    A step is left out; a precision, a runtime and a number of threads give way to the reference's.
    """

    def replaced(execution: Execution) -> Candidate:
        return msgspec.structs.replace(chosen, execution=execution)

    parts = [
        (
            str(applied(step)),
            msgspec.structs.replace(
                chosen, steps=tuple(other for other in chosen.steps if other is not step)
            ),
        )
        for step in chosen.steps
    ]
    execution = chosen.execution
    if execution.hint in {"bf16", "f16"}:
        plain = msgspec.structs.replace(execution, hint="f32")
        parts.append((execution.hint, replaced(plain)))
    if execution.device != "cpu" or execution.delegate:
        plain = msgspec.structs.replace(execution, device="cpu", delegate="")
        parts.append((f"{execution} (instead of {plain})", replaced(plain)))
    if chosen.runtime != reference.runtime:
        # A graph that steps have changed cannot go back to PyTorch; ONNX Runtime takes any.
        home = "onnxruntime" if chosen.steps else reference.runtime
        if home != chosen.runtime:
            plain = msgspec.structs.replace(execution, hint="default", device="cpu", delegate="")
            other = msgspec.structs.replace(chosen, runtime=home, execution=plain)
            parts.append((f"{chosen.runtime} (instead of {home})", other))
    before = reference.execution
    # Threads are the processor's; another device has its own.
    if execution.device == "cpu" and (execution.threads, execution.instances, execution.batch) != (
        before.threads,
        before.instances,
        before.batch,
    ):
        plain = msgspec.structs.replace(
            before, hint=execution.hint, device=execution.device, delegate=execution.delegate
        )
        parts.append((f"{execution} (instead of {before})", replaced(plain)))
    return parts


def write_ledger(
    winner: Contestant,
    known: Sequence[Contestant],
    *,
    builder: Builder,
    heats: Heats,
    judge: Judge,
    deadline: Deadline,
    progress: Progress,
) -> tuple[list[LedgerEntry], list[str]]:
    """Measure the winner against itself without each part, in paired rounds.

    Returns the entries, and notes on runtimes that part ways on the same file. An entry that could
    not be measured is there with the reason.
    """
    parts = parts_of(winner.candidate, heats.reference.candidate)
    by_candidate = {contestant.candidate: contestant for contestant in known}
    lacking = []
    for name, candidate in parts:
        made = builder.contestant(candidate)
        if candidate in by_candidate:
            made.score = by_candidate[candidate].score
            made.predictions = by_candidate[candidate].predictions
        lacking.append((name, made))
    runners = [made for _, made in lacking if made.racing]
    if not runners or deadline.passed:
        return [
            _entry(name, winner, made, None, made.reason or "not measured: the time was up")
            for name, made in lacking
        ], []
    with progress.stage("ledger", _ROUNDS) as advance:
        again = Contestant(winner.candidate, winner.model, winner.lowered)
        result = heats.heat([again, *runners], _ROUNDS, deadline=deadline, advance=advance)
    entries = []
    for name, made in lacking:
        shares = None
        if made in result.measured and again in result.measured:
            shares = result.speedup(again, over=made)
            if made.score is None and not deadline.passed:
                judge.judge(made)
        entries.append(_entry(name, winner, made, shares, made.reason))
    return entries, judge.partings(winner, [made for _, made in lacking])


def _entry(
    name: str, winner: Contestant, lacking: Contestant, share: Interval | None, note: str
) -> LedgerEntry:
    change = None
    if winner.score is not None and lacking.score is not None:
        change = winner.score.value - lacking.score.value
    size = (winner.size_bytes or 0) - (lacking.size_bytes or winner.size_bytes or 0)
    return LedgerEntry(
        step=name, speedup=share, metric_change=change, size_change_bytes=size, note=note
    )
