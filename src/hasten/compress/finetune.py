"""Fine-tuning: the float weights trained further, on labels or on a teacher's answers."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, ClassVar

from hasten.compress.effect import Effect, Need
from hasten.compress.step import Context, StepConfig, applied
from hasten.compress.training import (
    Aim,
    learn,
    module_of,
    needs_with,
    objective,
    require_alpha,
    teacher_of,
    training_samples,
)
from hasten.train.loss_names import LOSSES
from hasten.train.schedule import LossSettings

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["Finetune", "apply"]

_DOING = "fine-tuning"


class Finetune(LossSettings, StepConfig, frozen=True, tag="finetune"):
    """Train the weights as the schedule says.

    The loss is ``alpha * labels + (1 - alpha) * teacher``: with 1 it is labels alone, with less a
    teacher is needed. How outputs are compared with either is said by ``loss``, see
    ``LossSettings``.
    """

    unsaid_defaults: ClassVar[frozenset[str]] = frozenset(LossSettings.__struct_fields__) - {
        "epochs",
        "smoothing",
    }
    effect: ClassVar[Effect] = Effect(needs=frozenset({"training"}))

    alpha: float = 1.0
    temperature: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_alpha(self.alpha)

    @property
    def needs(self) -> frozenset[Need]:
        """Samples, and labels unless the teacher's answers are all that counts."""
        return needs_with(self.effect, self.alpha, self.loss)


def apply(model: Model, config: Finetune, context: Context) -> Model:
    """Return the model with trained weights; RefusedError where it cannot be trained."""
    from hasten.train import open_teacher

    training_samples(context, _DOING)
    module = module_of(model.graph)
    module.freeze(config.freeze)
    aim = Aim(config.alpha, config.temperature)
    with ExitStack() as stack:
        teacher = None
        own = config.loss not in LOSSES
        if config.alpha < 1 and not (own and context.teacher is None):
            source = teacher_of(context, _DOING)
            opened = open_teacher(source, model.signature, context.scratch)
            teacher = stack.enter_context(closing(opened))
        loss, outputs = objective(
            module, model, config, context, aim=aim, teacher=teacher, doing=_DOING
        )
        learn(module, model, loss, config, context, teacher=teacher, outputs=outputs, doing=_DOING)
    return model.evolve(module.to_graph(), model.signature, applied(config))
