"""Distillation: a small model learns what a large one answers, with labels or without."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from msgspec.structs import replace
from numpy.typing import NDArray

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
from hasten.data import Samples
from hasten.errors import ModelError, OptionError
from hasten.train.schedule import LossSettings

if TYPE_CHECKING:
    import torch

    from hasten.graph import Model, Signature
    from hasten.train import GraphModule, Teacher

__all__ = ["Distill", "apply"]

_DOING = "distillation"


class Distill(LossSettings, StepConfig, frozen=True, tag="distill"):
    """Train a student on a teacher's answers for the same augmented views.

    Every output counts. ``method`` is ``kl``, Hinton's divergence of softened classes along the
    axis where they stand, ``dkd``, which weighs the classes that are not the target by
    ``other_weight``, both with what fits outputs that are no classes, or ``match``, the squared
    difference of all. ``alpha`` is the share of the loss against labels; at 0 none are needed.
    ``hints`` are pairs of tensors, of student and teacher, that are brought together as well, with
    ``hint_weight``; for these the teacher has to be a graph.
    """

    unsaid_defaults: ClassVar[frozenset[str]] = frozenset(LossSettings.__struct_fields__) - {
        "epochs",
        "smoothing",
    }
    effect: ClassVar[Effect] = Effect(needs=frozenset({"training"}))

    alpha: float = 0.0
    temperature: float = 4.0
    method: Literal["kl", "dkd", "match"] = "kl"
    other_weight: float = 8.0
    hints: tuple[tuple[str, str], ...] = ()
    hint_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_alpha(self.alpha)
        if self.method == "match" and self.alpha:
            raise OptionError(expected="0 with method match", got=str(self.alpha), where="alpha")
        if not self.temperature > 0:
            got = str(self.temperature)
            raise OptionError(expected="a positive number", got=got, where="temperature")

    @property
    def needs(self) -> frozenset[Need]:
        """Samples, and labels unless the teacher's answers are all that counts."""
        return needs_with(self.effect, self.alpha, self.loss)


def apply(model: Model, config: Distill, context: Context) -> Model:
    """Return the student trained; RefusedError without samples or teacher, or what trains not.

    Raises ModelError for a teacher whose inputs or outputs are not the student's.
    """
    from hasten.train import HintLoss, WeightedLoss, open_teacher

    samples = training_samples(context, _DOING)
    source = teacher_of(context, _DOING)
    own, others = [pair[0] for pair in config.hints], [pair[1] for pair in config.hints]
    module = module_of(model.graph, own)
    module.freeze(config.freeze)
    aim = Aim(
        config.alpha, config.temperature, config.other_weight if config.method == "dkd" else None
    )
    settings = replace(config, loss="mse") if config.method == "match" else config
    with closing(open_teacher(source, model.signature, context.scratch, hints=others)) as teacher:
        answers = _WithoutHints(teacher, others)
        loss, outputs = objective(
            module, model, settings, context, aim=aim, teacher=answers, doing=_DOING
        )
        if config.hints:
            widths = _widths(module, teacher, model.signature, config, samples)
            hints = HintLoss(config.hints, widths, config.seed)
            loss = WeightedLoss([cast("torch.nn.Module", loss), hints], [1.0, config.hint_weight])
        learn(
            module,
            model,
            loss,
            config,
            context,
            teacher=teacher,
            outputs=outputs,
            hints=others,
            doing=_DOING,
        )
    return model.evolve(module.to_graph(), model.signature, applied(config))


@dataclass(frozen=True)
class _WithoutHints:
    """A teacher's outputs alone."""

    teacher: Teacher
    hints: Sequence[str]

    def answer(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs for a feed."""
        found = self.teacher.answer(feed)
        return {name: value for name, value in found.items() if name not in self.hints}

    def close(self) -> None:
        """Leave the teacher to who has opened it."""


def _widths(
    module: GraphModule, teacher: Teacher, signature: Signature, config: Distill, samples: Samples
) -> list[tuple[int, int]]:
    """Return the channels of each pair of tensors, from what one sample makes of them."""
    import torch

    feed, _ = next(samples.select([0]).batches(signature, 1))
    with torch.no_grad():
        own = module({name: torch.tensor(value) for name, value in feed.items()})
    other = teacher.answer(feed)
    for student, taught in config.hints:
        shapes = tuple(own[student].shape), other[taught].shape
        if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:  # noqa: PLR2004 - [n, channels]
            raise ModelError(
                expected=f"features of one rank in '{student}' and the teacher's '{taught}'",
                got=f"{list(shapes[0])} and {list(shapes[1])}",
                where="hints",
            )
    return [(own[student].shape[1], other[taught].shape[1]) for student, taught in config.hints]
