"""The main job: from a model and its samples to the fastest plan that keeps its accuracy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from hasten.bundle.manifest import LedgerEntry
from hasten.compress import Context
from hasten.data import Metric, Samples
from hasten.errors import RuntimeFailureError
from hasten.graph import Model
from hasten.measure.clock import Deadline
from hasten.measure.environment import Weather
from hasten.progress import Progress, Quiet
from hasten.tune.budget import Budget
from hasten.tune.build import Builder
from hasten.tune.chain import Chain
from hasten.tune.field import Field
from hasten.tune.heat import Heats
from hasten.tune.judge import Judge
from hasten.tune.ledger import write_ledger
from hasten.tune.mixing import Mixing
from hasten.tune.plan import Plan, make_plan
from hasten.tune.race import Race
from hasten.tune.settings import Settings

__all__ = ["optimize"]

#: Kept back for the ledger, as a share of the time; the confirmation comes before it.
_LEDGER_SHARE = 0.15


def optimize(
    model: Model,
    *,
    calibration: Samples | None,
    validation: Samples,
    metric: Metric,
    budget: Budget,
    settings: Settings,
    scratch: Path,
    progress: Progress | None = None,
    notes: Sequence[str] = (),
    deadline: Deadline | None = None,
    chain: Chain | None = None,
) -> Plan:
    """Race all candidates and return the plan that won, with its evidence.

    ``calibration`` is None where there are no real samples: steps that need them are refused.
    ``scratch`` is an empty folder that must outlive the plan. ``deadline`` is given where time
    has been running already; else it is ``settings.time_s`` from now. ``chain`` is what a recipe
    made of the model: then its graph races alone against the reference, in every runtime. Raises
    RuntimeFailureError when the reference itself cannot be measured.
    """
    progress = progress or Quiet()
    deadline = deadline or Deadline.after(settings.time_s)
    preprocessing = validation.preprocessing
    context = Context(scratch, calibration, preprocessing, progress)
    builder = Builder(model, context)
    steps = None if chain is None else chain.steps
    if chain is not None:
        for count, made in enumerate(chain.models):
            builder.know(chain.steps[:count], made)
    field = Field(model, builder, settings, progress, steps=steps)
    staged = scratch / "validation"
    validation.save(staged)
    reference = builder.contestant(field.reference)
    racing_until = deadline.earlier_by(settings.time_s * _LEDGER_SHARE)
    order = random.Random(settings.seed)  # noqa: S311 - an order of rounds, not a secret
    heats = Heats(
        reference, staged, scratch, settings.target, order, racing_until, settings.fail_on_fallback
    )
    judge = Judge(metric, budget, validation, staged, scratch, racing_until, settings.outputs)
    before = Weather.now()
    with progress.stage("judging the reference", None):
        judge.judge_reference(reference)
    contestants = field.make()
    race = Race(
        reference,
        contestants,
        field.alternates,
        heats,
        judge,
        racing_until,
        progress,
        settings.pace,
        [*notes, *(() if chain is None else chain.notes)],
        needed_until=deadline,
        mixing=Mixing(builder, judge, settings.seed, progress) if chain is None else None,
    )
    outcome = race.run()
    outcome.notes += judge.notes
    if settings.fail_on_fallback:
        outcome.winner.require_whole()
    outcome.notes += [f"unsteady: {cause}" for cause in Weather.now().unrest_since(before)]
    ledger: list[LedgerEntry] = []
    if outcome.winner is not reference:
        judge.deadline = heats.deadline = deadline
        try:
            ledger, partings = write_ledger(
                outcome.winner,
                contestants,
                builder=builder,
                heats=heats,
                judge=judge,
                deadline=deadline,
                progress=progress,
                in_turn=chain is not None,
            )
            outcome.notes += partings
        except (KeyboardInterrupt, RuntimeFailureError) as stopped:
            # The race is over and its winner stands; only the shares of its parts are missing.
            outcome.notes.append(f"no ledger: {str(stopped) or 'interrupted'}")
    return make_plan(
        model.name,
        reference=reference,
        contestants=contestants,
        outcome=outcome,
        ledger=ledger,
        judge=judge,
        target=settings.target,
    )
