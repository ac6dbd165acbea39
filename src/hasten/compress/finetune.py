"""Fine-tuning: the float weights trained further, on labels or on a teacher's answers."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, ClassVar

from hasten.compress.effect import Effect, Need
from hasten.compress.step import Context, StepConfig, applied
from hasten.compress.training import (
    learn,
    needs_with,
    require_alpha,
    teacher_of,
    training_samples,
)
from hasten.train.schedule import Schedule

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["Finetune", "apply"]

_DOING = "fine-tuning"


class Finetune(Schedule, StepConfig, frozen=True, tag="finetune"):
    """Train the weights as the schedule says.

    The loss is ``alpha * cross entropy + (1 - alpha) * T^2 * KL`` against a teacher: with 1 it is
    labels alone, with less a teacher is needed. ``smoothing`` is spread over all classes.
    """

    unsaid_defaults: ClassVar[frozenset[str]] = frozenset(Schedule.__struct_fields__) - {"epochs"}
    effect: ClassVar[Effect] = Effect(needs=frozenset({"training"}))

    alpha: float = 1.0
    temperature: float = 4.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_alpha(self.alpha)

    @property
    def needs(self) -> frozenset[Need]:
        """Samples, and labels unless the teacher's answers are all that counts."""
        return needs_with(self.effect, self.alpha)


def apply(model: Model, config: Finetune, context: Context) -> Model:
    """Return the model with trained weights; RefusedError where it cannot be trained."""
    from hasten.train import DistillationLoss, GraphModule, LabelLoss, logits_of, open_teacher

    training_samples(context, _DOING)
    module = GraphModule(model.graph, outputs=logits_of(model.graph))
    module.freeze(config.freeze)
    if config.alpha == 1:
        learn(module, model, LabelLoss(config.smoothing), config, context, doing=_DOING)
    else:
        source = teacher_of(context, _DOING)
        loss = DistillationLoss(config.alpha, config.temperature, config.smoothing)
        with closing(open_teacher(source, model.signature, context.scratch)) as teacher:
            learn(module, model, loss, config, context, teacher=teacher, doing=_DOING)
    return model.evolve(module.to_graph(), model.signature, applied(config))
