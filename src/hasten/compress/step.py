"""What a step is: a frozen config that selects one handler, which maps a model to a model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from hasten.compress.channel_mean import ChannelMean
from hasten.compress.histogram import Histogram
from hasten.data import Preprocessing, Samples
from hasten.errors import RefusedError
from hasten.graph import AppliedStep, Model
from hasten.progress import Progress, Quiet

__all__ = [
    "Context",
    "Observation",
    "Handler",
    "StepConfig",
    "applied",
    "quiet_quantizer",
    "refuse_control_flow",
]


class StepConfig(msgspec.Struct, frozen=True, tag_field="step"):
    """Base of all step configs: plain settings, equal when they mean the same."""


@dataclass(frozen=True)
class Observation:
    """What calibration samples looked like inside a model, by the names of its tensors."""

    histograms: Mapping[str, Histogram]
    means: Mapping[str, ChannelMean]


@dataclass(eq=False)
class Context:
    """What steps may use beside the model: calibration samples, and a place to work in.

    ``observations`` keeps what was seen of each model, by its digest, so that candidates that
    differ in calibrator or dtype observe once. ``unfolded`` leads from the digest of a model with
    folded inputs to the model before, whose activations are the same.
    """

    scratch: Path
    calibration: Samples | None = None
    preprocessing: Mapping[str, Preprocessing] = field(default_factory=dict)
    progress: Progress = field(default_factory=Quiet)
    observations: dict[str, Observation] = field(default_factory=dict)
    unfolded: dict[str, Model] = field(default_factory=dict)


#: Applies a step; raises RefusedError with the reason when the step cannot take the model.
Handler = Callable[[Model, Any, Context], Model]


def applied(config: StepConfig) -> AppliedStep:
    """Return the record of a step: its name and its settings.

    The name is the config's tag, the settings its fields; what lists nothing is left out.
    """
    settings = {name: value for name, value in msgspec.to_builtins(config).items() if value != ()}
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
