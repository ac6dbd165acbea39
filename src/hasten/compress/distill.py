"""Distillation: a small model learns what a large one answers, with labels or without."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, ClassVar, Literal

from hasten.compress.effect import Effect, Need
from hasten.compress.step import Context, StepConfig, applied
from hasten.compress.training import (
    learn,
    needs_with,
    require_alpha,
    teacher_of,
    training_samples,
)
from hasten.data import Samples
from hasten.errors import ModelError, OptionError
from hasten.train.schedule import Schedule

if TYPE_CHECKING:
    import torch

    from hasten.graph import Model, Signature
    from hasten.train import GraphModule, Teacher
    from hasten.train.losses import Loss

__all__ = ["Distill", "apply"]

_DOING = "distillation"


class Distill(Schedule, StepConfig, frozen=True, tag="distill"):
    """Train a student on a teacher's answers for the same augmented views.

    ``method`` is ``kl``, Hinton's divergence of softened classes, ``dkd``, which weighs the classes
    that are not the target by ``other_weight``, or ``match``, the squared difference of outputs of
    any kind. ``alpha`` is the share of the cross entropy against labels; at 0 none are needed.
    ``hints`` are pairs of tensors, of student and teacher, that are brought together as well, with
    ``hint_weight``; for these the teacher has to be a graph.
    """

    unsaid_defaults: ClassVar[frozenset[str]] = frozenset(Schedule.__struct_fields__) - {"epochs"}
    effect: ClassVar[Effect] = Effect(needs=frozenset({"training"}))

    alpha: float = 0.0
    temperature: float = 4.0
    method: Literal["kl", "dkd", "match"] = "kl"
    other_weight: float = 8.0
    smoothing: float = 0.0
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
        return needs_with(self.effect, self.alpha)


def apply(model: Model, config: Distill, context: Context) -> Model:
    """Return the student trained; RefusedError without samples or teacher, or what trains not.

    Raises ModelError for a teacher whose inputs or outputs are not the student's.
    """
    from hasten.train import GraphModule, logits_of, open_teacher

    training_samples(context, _DOING)
    source = teacher_of(context, _DOING)
    own, others = [pair[0] for pair in config.hints], [pair[1] for pair in config.hints]
    module = GraphModule(model.graph, outputs=[*logits_of(model.graph), *own])
    module.freeze(config.freeze)
    with closing(open_teacher(source, model.signature, context.scratch, hints=others)) as teacher:
        loss = _loss(module, teacher, model.signature, config, context)
        learn(module, model, loss, config, context, teacher=teacher, hints=others, doing=_DOING)
    return model.evolve(module.to_graph(), model.signature, applied(config))


def _loss(
    module: GraphModule, teacher: Teacher, signature: Signature, config: Distill, context: Context
) -> Loss:
    from hasten.train import (
        DecoupledLoss,
        DistillationLoss,
        HintLoss,
        MatchingLoss,
        WeightedLoss,
    )

    settings = (config.alpha, config.temperature)
    learnt: torch.nn.Module
    if config.method == "kl":
        learnt = DistillationLoss(*settings, config.smoothing)
    elif config.method == "dkd":
        learnt = DecoupledLoss(*settings, config.other_weight, config.smoothing)
    else:
        learnt = MatchingLoss()
    if not config.hints:
        return learnt
    widths = _widths(module, teacher, signature, config, training_samples(context, _DOING))
    hints = HintLoss(config.hints, widths, config.seed)
    return WeightedLoss([learnt, hints], [1.0, config.hint_weight])


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
