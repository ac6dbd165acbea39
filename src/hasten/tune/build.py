"""From a candidate to a file its runtime can open: each chain of steps is applied once."""

from __future__ import annotations

from dataclasses import dataclass, field

from hasten.compress import Context, StepConfig, apply_step
from hasten.errors import HastenError, RefusedError
from hasten.graph import Model
from hasten.runtimes import Lowered, get_runtime
from hasten.tune.candidate import Candidate, Contestant

__all__ = ["Builder"]


@dataclass(eq=False)
class Builder:
    """Applies steps to one model, and keeps what each chain of steps made of it."""

    model: Model
    context: Context
    _models: dict[tuple[StepConfig, ...], Model | RefusedError] = field(default_factory=dict)

    def know(self, steps: tuple[StepConfig, ...], model: Model) -> None:
        """Take note of the model after these steps, where it was made elsewhere."""
        self._models[steps] = model

    def apply(self, steps: tuple[StepConfig, ...]) -> Model:
        """Return the model after these steps; raises RefusedError with the reason."""
        if steps not in self._models:
            self._models[steps] = self._apply(steps)
        found = self._models[steps]
        if isinstance(found, RefusedError):
            raise found
        return found

    def _apply(self, steps: tuple[StepConfig, ...]) -> Model | RefusedError:
        if not steps:
            return self.model
        try:
            return apply_step(self.apply(steps[:-1]), steps[-1], self.context)
        except RefusedError as refused:
            return refused

    def contestant(self, candidate: Candidate) -> Contestant:
        """Make the candidate ready to race; one that is refused carries the reason."""
        nothing = Contestant(candidate)
        runtime = get_runtime(candidate.runtime)
        try:
            model = self.apply(candidate.steps)
            reasons = runtime.supports(model)
            if reasons:
                raise RefusedError("; ".join(reasons))
            lowered = runtime.lower(model, self.context.scratch, candidate.execution.hint)
            _require_batch(model, lowered, candidate)
        except RefusedError as refused:
            nothing.drop("refused", str(refused))
            return nothing
        except HastenError as error:
            nothing.drop("failed", str(error))
            return nothing
        return Contestant(candidate, model, lowered)


def _require_batch(model: Model, lowered: Lowered, candidate: Candidate) -> None:
    """Raise RefusedError where samples must not share a batch, or lowering had to fix its size.

    A step may bring such a thing in: int8 with a scale that is taken of the whole batch.
    """
    fixed, asked = lowered.signature.batch, candidate.execution.batch
    if asked > 1 and model.signature.batch is None and model.rows.rows == "mixed":
        raise RefusedError(f"samples cannot share a batch: {model.rows}")
    if fixed is not None and fixed < asked:
        raise RefusedError(f"{candidate.runtime} can only lower it for a batch of {fixed}")
