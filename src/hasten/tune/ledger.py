"""The ledger: each part's own share of the gain, measured with and without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hasten.bundle.manifest import LedgerEntry
from hasten.compress import applied
from hasten.measure.clock import Deadline
from hasten.measure.statistics import Interval
from hasten.progress import Progress
from hasten.runtimes import Execution
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.heat import Heats, Result
from hasten.tune.judge import Judge

__all__ = ["Part", "parts_in_turn", "parts_of", "write_ledger"]

_ROUNDS = 8


class Part(NamedTuple):
    """A part of a plan: its share is what ``whole`` gains over ``lacking``."""

    name: str
    whole: Candidate
    lacking: Candidate


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


def parts_in_turn(chosen: Candidate, reference: Candidate) -> list[Part]:
    """Name each part of a recipe's plan: a step with those before it, against those before it.

    Steps of a recipe build on one another, so none can be taken out from under the later ones, and
    what comes after it may be hours of training. The other parts are as in ``parts_of``.
    """
    steps = chosen.steps
    prefixes = [
        msgspec.structs.replace(chosen, steps=steps[:count]) for count in range(len(steps) + 1)
    ]
    found = [
        Part(str(applied(step)), prefixes[at + 1], prefixes[at]) for at, step in enumerate(steps)
    ]
    others = parts_of(chosen, reference)[len(steps) :]
    return [*found, *(Part(name, chosen, lacking) for name, lacking in others)]


def write_ledger(
    winner: Contestant,
    known: Sequence[Contestant],
    *,
    builder: Builder,
    heats: Heats,
    judge: Judge,
    deadline: Deadline,
    progress: Progress,
    in_turn: bool = False,
) -> tuple[list[LedgerEntry], list[str]]:
    """Measure each part with and without it, in paired rounds.

    A part is left out of the winner, or with ``in_turn`` measured as ``parts_in_turn`` says.
    Returns the entries, and notes on runtimes that part ways on the same file. An entry that could
    not be measured is there with the reason.
    """
    chosen, reference = winner.candidate, heats.reference.candidate
    parts = [Part(name, chosen, lacking) for name, lacking in parts_of(chosen, reference)]
    if in_turn:
        parts = parts_in_turn(chosen, reference)
    made = _made(parts, winner, known, builder)
    measured: set[Candidate] = set()
    result: Result | None = None
    runners = [one for one in made.values() if one.racing]
    if any(one.candidate != chosen for one in runners) and not deadline.passed:
        with progress.stage("ledger", _ROUNDS) as advance:
            result = heats.heat(runners, _ROUNDS, deadline=deadline, advance=advance)
        measured = {one.candidate for one in result.measured}
        for one in result.measured:
            if one.score is None and not deadline.passed:
                judge.judge(one)
    entries = []
    for part in parts:
        whole, lacking = made[part.whole], made[part.lacking]
        share = None
        note = lacking.reason or whole.reason
        if result is not None and {part.whole, part.lacking} <= measured:
            share = result.speedup(whole, over=lacking)
        elif result is None and not note:
            note = "not measured: the time was up"
        entries.append(_entry(part.name, whole, lacking, share, note))
    return entries, judge.partings(winner, [made[part.lacking] for part in parts])


def _made(
    parts: Sequence[Part], winner: Contestant, known: Sequence[Contestant], builder: Builder
) -> dict[Candidate, Contestant]:
    """Make every candidate of the parts anew, for rounds of their own, with what is known of it."""
    known_by = {contestant.candidate: contestant for contestant in (*known, winner)}
    made: dict[Candidate, Contestant] = {}
    for candidate in (winner.candidate, *(one for _, *pair in parts for one in pair)):
        if candidate in made:
            continue
        made[candidate] = builder.contestant(candidate)
        if candidate in known_by:
            made[candidate].score = known_by[candidate].score
            made[candidate].predictions = known_by[candidate].predictions
    return made


def _entry(
    name: str, whole: Contestant, lacking: Contestant, share: Interval | None, note: str
) -> LedgerEntry:
    change = None
    if whole.score is not None and lacking.score is not None:
        change = whole.score.value - lacking.score.value
    size = (whole.size_bytes or 0) - (lacking.size_bytes or whole.size_bytes or 0)
    return LedgerEntry(
        step=name, speedup=share, metric_change=change, size_change_bytes=size, note=note
    )
