"""Compression: one file a step, each a frozen config and the handler that it selects.

What steps are made of has rooms of its own: activations, quantization, pruning, rescaling.
"""

from __future__ import annotations

import importlib
from dataclasses import replace
from typing import TYPE_CHECKING

from hasten.compress.distill import Distill
from hasten.compress.dynamic_int8 import DynamicInt8
from hasten.compress.effect import Effect, Need
from hasten.compress.equalize import Equalize
from hasten.compress.finetune import Finetune
from hasten.compress.fold_input import FoldInput
from hasten.compress.prune_channels import PruneChannels
from hasten.compress.smooth_activations import SmoothActivations
from hasten.compress.sparsify import Sparsify
from hasten.compress.static_int8 import StaticInt8
from hasten.compress.step import Context, StepConfig, applied
from hasten.compress.train_quantized import TrainQuantized
from hasten.compress.weight_int4 import WeightInt4
from hasten.compress.weight_int8 import WeightInt8
from hasten.errors import RefusedError
from hasten.graph import fold_derived

if TYPE_CHECKING:
    from hasten.compress.step import Handler
    from hasten.graph import Model

__all__ = [
    "STEPS",
    "Context",
    "Distill",
    "DynamicInt8",
    "Effect",
    "Equalize",
    "Finetune",
    "FoldInput",
    "Need",
    "PruneChannels",
    "SmoothActivations",
    "Sparsify",
    "StaticInt8",
    "StepConfig",
    "TrainQuantized",
    "WeightInt4",
    "WeightInt8",
    "applied",
    "apply_step",
]

#: Every step: its config and where its handler is. To add one, write its file and a line here.
STEPS: dict[type[StepConfig], str] = {
    FoldInput: "fold_input:apply",
    Equalize: "equalize:apply",
    PruneChannels: "prune_channels:apply",
    SmoothActivations: "smooth_activations:apply",
    Sparsify: "sparsify:apply",
    DynamicInt8: "dynamic_int8:apply",
    WeightInt4: "weight_int4:apply",
    WeightInt8: "weight_int8:apply",
    StaticInt8: "static_int8:apply",
    Finetune: "finetune:apply",
    Distill: "distill:apply",
    TrainQuantized: "train_quantized:apply",
}


def apply_step(model: Model, config: StepConfig, context: Context) -> Model:
    """Apply one step; raises RefusedError with the reason when it cannot take this model."""
    if model.format == "tflite":
        reason = model.tflite.refusal if model.tflite is not None else ""
        because = f": {reason}" if reason else ""
        raise RefusedError(f"steps take an ONNX graph; a .tflite runs as it is{because}")
    if "training" not in config.effect.needs:
        model = _with_constants(model)
    module, _, name = STEPS[type(config)].partition(":")
    handler: Handler = getattr(importlib.import_module(f"hasten.compress.{module}"), name)
    return handler(model, config, context)


def _with_constants(model: Model) -> Model:
    """Return the model with its weights as constants, also those that are made of parameters."""
    graph, derived = fold_derived(model.graph)
    return replace(model, content=graph) if derived else model
