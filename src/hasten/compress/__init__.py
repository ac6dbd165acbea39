"""Compression: one file a step, each a frozen config and the handler that it selects."""

from __future__ import annotations

import importlib
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Any

import msgspec

from hasten.compress.dynamic_int8 import DynamicInt8
from hasten.compress.fold_input import FoldInput
from hasten.compress.static_int8 import StaticInt8
from hasten.compress.step import Context, StepConfig, applied
from hasten.compress.weight_int8 import WeightInt8
from hasten.errors import OptionError, RefusedError

if TYPE_CHECKING:
    from hasten.compress.step import Handler
    from hasten.graph import AppliedStep, Model

__all__ = [
    "STEPS",
    "Context",
    "DynamicInt8",
    "FoldInput",
    "StaticInt8",
    "StepConfig",
    "WeightInt8",
    "applied",
    "apply_step",
    "config_of",
]

#: Every step: its config and where its handler is. To add one, write its file and a line here.
STEPS: dict[type[StepConfig], str] = {
    FoldInput: "fold_input:apply",
    DynamicInt8: "dynamic_int8:apply",
    WeightInt8: "weight_int8:apply",
    StaticInt8: "static_int8:apply",
}


def apply_step(model: Model, config: StepConfig, context: Context) -> Model:
    """Apply one step; raises RefusedError with the reason when it cannot take this model."""
    if model.format == "tflite":
        reason = model.tflite.refusal if model.tflite is not None else ""
        because = f": {reason}" if reason else ""
        raise RefusedError(f"steps take an ONNX graph; a .tflite runs as it is{because}")
    module, _, name = STEPS[type(config)].partition(":")
    handler: Handler = getattr(importlib.import_module(f"hasten.compress.{module}"), name)
    return handler(model, config, context)


def config_of(step: AppliedStep) -> StepConfig:
    """Return the config that a step ran with: the inverse of ``applied``.

    >>> config_of(applied(StaticInt8("s8", "mse")))
    StaticInt8(activations='s8', calibrator='mse', bias='corrected')

    Raises OptionError for a step, or the value of a setting, that this release does not have.
    """
    any_step: Any = reduce(or_, STEPS)
    try:
        config: StepConfig = msgspec.convert({**step.config, "step": step.step}, any_step)
    except msgspec.ValidationError as error:
        raise OptionError(
            expected="a step of this release with its settings",
            got=str(error),
            where=f"step {step}",
        ) from error
    return config
