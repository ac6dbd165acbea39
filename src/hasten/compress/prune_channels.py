"""Structured pruning: whole channels go, and what is left is a plain smaller graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from hasten.compress.effect import Effect, Need
from hasten.compress.pruning.allocation import (
    Counts,
    allocate,
    constant_bytes,
    most_important,
    uniform,
)
from hasten.compress.pruning.groups import ChannelMap, channel_map
from hasten.compress.pruning.importance import Importance, Importances, importances
from hasten.compress.pruning.latency_goal import LatencyGoal
from hasten.compress.pruning.reconstruction import reconstructed
from hasten.compress.pruning.removal import pruned
from hasten.compress.static_int8 import StaticInt8
from hasten.compress.static_int8 import apply as quantized
from hasten.compress.step import Context, StepConfig, applied
from hasten.data import Samples
from hasten.errors import OptionError, RefusedError
from hasten.graph.operators import operator_label

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["PruneChannels", "apply"]

TimedAs: TypeAlias = Literal["float", "int8"]

_DEFAULT_RATIO = 0.5


class PruneChannels(StepConfig, frozen=True, tag="prune_channels"):
    """Remove the channels that matter least, in multiples of ``multiple``, to one goal.

    ``ratio`` is the share of channels that goes from each group, half of them where no goal is
    given. ``latency_ratio`` is the share of the latency that is left, as measured on the runtime
    that the context's stopwatch runs, and ``size_ratio`` that of the constants' bytes; these two
    choose for each group how many channels go. ``timed_as`` is what the latency is measured of: the
    graph as it is, or what static int8 makes of it where that comes later, for in integers time
    goes elsewhere. ``reconstruct`` solves the weights that are left anew, so that layers give what
    they gave before; it needs calibration samples, and without any it is left out and said so.
    """

    effect: ClassVar[Effect] = Effect(timed=True)
    unsaid_defaults: ClassVar[frozenset[str]] = frozenset({"reconstruct", "timed_as"})

    ratio: float | None = None
    latency_ratio: float | None = None
    size_ratio: float | None = None
    importance: Importance = "magnitude"
    multiple: int = 8
    reconstruct: bool = True
    timed_as: TimedAs = "float"

    def __post_init__(self) -> None:
        goals = {name: getattr(self, name) for name in ("ratio", "latency_ratio", "size_ratio")}
        given = {name: value for name, value in goals.items() if value is not None}
        if len(given) > 1:
            raise OptionError(expected="one goal", got=" and ".join(given), where="prune_channels")
        for name, value in given.items():
            if not 0 < value < 1:
                raise OptionError(
                    expected="a ratio between 0 and 1",
                    got=str(value),
                    where=f"prune_channels: {name}",
                )
        if self.timed_as != "float" and self.latency_ratio is None:
            raise OptionError(
                expected="a goal in latency, which is what is timed",
                got=f"{self.timed_as} without one",
                where="prune_channels: timed_as",
            )
        if self.multiple < 1:
            raise OptionError(
                expected="a multiple of at least 1",
                got=str(self.multiple),
                where="prune_channels: multiple",
            )

    @property
    def needs(self) -> frozenset[Need]:
        """Samples, where gradients tell the importance."""
        return frozenset({"calibration"} if self.importance == "taylor" else ())

    @property
    def reads_batch_norms(self) -> bool:
        """Where their scales tell the importance."""
        return self.importance == "batch_norm"


def apply(model: Model, config: PruneChannels, context: Context) -> Model:
    """Remove channels; RefusedError says why there are none, or that the goal is out of reach."""
    found = channel_map(model.graph)
    _require_groups(found, config.multiple)
    values = importances(model, found.groups, config.importance, context)
    if config.latency_ratio is None:
        keep = _kept(values, _counts(found, values, config))
    else:
        if context.stopwatch is None:
            raise RefusedError("a goal in latency needs a stopwatch: nothing measures here")
        goal = LatencyGoal(
            model,
            found,
            values,
            context.stopwatch,
            config.multiple,
            _preparing(config, context),
        )
        keep = _kept(values, goal.reach(config.latency_ratio, context.progress))
    graph = pruned(found, keep)
    if config.reconstruct and context.calibration is not None:
        graph = reconstructed(graph, model, found, keep, context)
    elif config.reconstruct:
        context.notes.append("prune_channels: no samples to solve the weights anew with")
    return model.evolve(graph, model.signature, applied(config))


def _require_groups(found: ChannelMap, multiple: int) -> None:
    if not found.groups:
        opaque = ", ".join(dict.fromkeys(operator_label(node) for node in found.trace.opaque[:3]))
        reason = f"what reaches {opaque} stays" if opaque else "they all reach an input or output"
        raise RefusedError(f"there are no channels that could be removed: {reason}")
    largest = max(group.size for group in found.groups)
    if largest <= multiple:
        raise RefusedError(
            f"no group has more than {largest} channels, and multiples of {multiple} are kept"
        )


def _counts(found: ChannelMap, values: Importances, config: PruneChannels) -> Counts:
    sizes = {group.name: group.size for group in found.groups}
    if config.size_ratio is None:
        ratio = _DEFAULT_RATIO if config.ratio is None else config.ratio
        return uniform(sizes, ratio, config.multiple)
    cost = constant_bytes(found)
    goal = cost(sizes) * config.size_ratio
    return allocate(values, cost, goal, start=sizes, multiple=config.multiple)


def _preparing(config: PruneChannels, context: Context) -> Callable[[Model], Model]:
    """Return what makes of a model the one to be timed."""
    if config.timed_as == "float":
        return lambda model: model

    def int8(model: Model) -> Model:
        # Ranges of noise, and bias left alone: neither changes what a dense kernel takes.
        noise = Context(context.scratch, Samples.synthetic(model.signature, 1, seed=0))
        return quantized(model, StaticInt8(bias="plain"), noise)

    return int8


def _kept(values: Importances, counts: Counts) -> dict[str, npt.NDArray[np.int64]]:
    return {name: most_important(values[name], count) for name, count in counts.items()}
