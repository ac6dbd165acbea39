"""A recipe's steps applied in their order, and the model after each of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace

from hasten.compress import Context, StepConfig, apply_step
from hasten.errors import RefusedError
from hasten.graph import Model
from hasten.tune.recipe import Recipe
from hasten.tune.step_cache import StepCache, step_key

__all__ = ["Chain", "apply_recipe"]


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps and ``models``, one more than steps: the first is as it was before all of them."""

    steps: tuple[StepConfig, ...]
    models: tuple[Model, ...]
    notes: tuple[str, ...] = ()


def apply_recipe(
    model: Model, recipe: Recipe, context: Context, cache: StepCache | None = None
) -> Chain:
    """Apply the steps in order; with a cache, only those whose results it does not hold.

    Where a step learns from a teacher and none is given, that is the model before all steps.
    Interrupted, it goes on after the last step that was done, and a step that trains from its last
    checkpoint. Raises RefusedError with the step's place in the recipe.
    """
    models: list[Model] = [model]
    notes: list[str] = []
    if cache is not None and (problem := cache.problem()):
        notes.append(problem)
        cache = None
    if context.teacher is None:
        context = replace(context, teacher=model)
    for at, step in enumerate(recipe.steps):
        try:
            made, said = _apply(models[-1], step, context, cache)
        except RefusedError as refused:
            raise RefusedError(f"{recipe.place(at)}: {refused}") from None
        models.append(made)
        notes += said
        if step.effect.interface and isinstance(context.teacher, Model):
            context = replace(context, teacher=apply_step(context.teacher, step, context))
    return Chain(recipe.steps, tuple(models), tuple(dict.fromkeys(notes)))


def _apply(
    model: Model, step: StepConfig, context: Context, cache: StepCache | None
) -> tuple[Model, list[str]]:
    context = replace(context, notes=[])
    if cache is None or step.effect.interface:
        return apply_step(model, step, context), context.notes
    key = step_key(model, step, context)
    found = cache.find(key, model, context.unfolded.get(model.digest))
    if found.model is not None:
        if found.unfolded is not None:
            context.unfolded[found.model.digest] = found.unfolded
        return found.model, list(found.notes)
    checkpoints = cache.checkpoints(key)
    made = apply_step(model, step, replace(context, checkpoints=checkpoints))
    twin = context.unfolded.get(made.digest)
    problem = cache.keep(key, made, twin, context.notes)
    if not problem:
        shutil.rmtree(checkpoints, ignore_errors=True)
    return made, [*context.notes, *filter(None, (found.damage, problem))]
