"""What a step is: a frozen config that selects one handler, which maps a model to a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from hasten.compress.activations.channel_mean import ChannelMean
from hasten.compress.activations.histogram import Histogram
from hasten.compress.effect import Effect, Need
from hasten.compress.quantization.biased_layers import ChannelsOf
from hasten.data import Preprocessing, Samples
from hasten.errors import RefusedError
from hasten.graph import AppliedStep, Model
from hasten.progress import Progress, Quiet

if TYPE_CHECKING:
    import torch

__all__ = [
    "Context",
    "Observation",
    "Handler",
    "StepConfig",
    "Stopwatch",
    "applied",
    "quiet_quantizer",
    "refuse_control_flow",
]


class StepConfig(msgspec.Struct, frozen=True, tag_field="step"):
    """Base of all step configs: plain settings, equal when they mean the same."""

    #: Fields whose default is left out of records.
    unsaid_defaults: ClassVar[frozenset[str]] = frozenset()
    #: What every step of this kind does, whatever its settings.
    effect: ClassVar[Effect] = Effect()

    @property
    def needs(self) -> frozenset[Need]:
        """Samples that it cannot do without; a config whose settings decide this says so here."""
        return self.effect.needs

    @property
    def reads_batch_norms(self) -> bool:
        """Whether it asks batch norms for something, so that they are folded only afterwards."""
        return False


@dataclass(frozen=True)
class Observation:
    """What calibration samples looked like inside a model: ranges by tensor, means by channels."""

    histograms: Mapping[str, Histogram]
    means: Mapping[ChannelsOf, ChannelMean]


class Stopwatch(Protocol):
    """Times models for steps with a goal in latency; measuring itself is not theirs to do."""

    def __call__(
        self, series: Iterable[Sequence[Model]], *, rounds: int
    ) -> Iterator[Sequence[float]]:
        """Yield for each series the milliseconds of one run of each of its models.

        They are measured beside the first of the series, so that their ratios hold on a machine
        that does other work too. Raises RuntimeFailureError where one cannot be run.
        """
        ...


@dataclass(eq=False)
class Context:
    """What steps may use beside the model: calibration samples, and a place to work in.

    ``observations`` keeps what was seen of each model, by its digest, so that candidates that
    differ in calibrator or dtype observe once. ``unfolded`` leads from the digest of a model with
    folded inputs to the model before, whose activations are the same. Steps that train take
    ``training``, samples beside those for calibration; a ``teacher``, which is a Model, a
    torch.nn.Module or the URL of a served model; and ``checkpoints``, a folder to go on from.
    ``notes`` are what steps have to tell beside the model that they return. ``stopwatch``
    is for steps that have a goal in latency.
    """

    scratch: Path
    calibration: Samples | None = None
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)
    progress: Progress = field(default_factory=Quiet)
    observations: dict[str, Observation] = field(default_factory=dict)
    unfolded: dict[str, Model] = field(default_factory=dict)
    training: Samples | None = None
    teacher: Model | torch.nn.Module | str | None = None
    checkpoints: Path | None = None
    notes: list[str] = field(default_factory=list)
    stopwatch: Stopwatch | None = None


#: Applies a step; raises RefusedError with the reason when the step cannot take the model.
Handler = Callable[[Model, Any, Context], Model]


def applied(config: StepConfig) -> AppliedStep:
    """Return the record of a step: its name and its settings.

    The name is the config's tag, the settings its fields; those in ``unsaid_defaults`` only where
    they differ from their default, so that records from before those fields still read the same.
    """
    settings = msgspec.to_builtins(config)
    for entry in msgspec.structs.fields(config):
        if entry.name in config.unsaid_defaults and getattr(config, entry.name) == entry.default:
            del settings[entry.name]
    lists = {name: list(value) for name, value in settings.items() if isinstance(value, tuple)}
    return AppliedStep(settings.pop("step"), settings | lists)


def refuse_control_flow(model: Model, doing: str) -> None:
    """Raise RefusedError where the graph holds control flow or sequence values."""
    from hasten.graph import control_flow

    found = control_flow(model.graph)
    if found:
        raise RefusedError(f"{doing} takes no control flow or sequences: {', '.join(found[:3])}")


@contextmanager
def quiet_quantizer() -> Iterator[None]:
    """Keep ONNX Runtime's quantizer quiet: it writes its notes to the root logger.

    A handler stands in meanwhile, since ``logging.warning`` gives a root without any one for good.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    root.addHandler(logging.NullHandler())
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers
