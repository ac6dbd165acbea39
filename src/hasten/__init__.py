"""Make a trained model fast where it runs, and prove it by measuring.

Names are loaded when first used, so that ``import hasten`` costs nothing. It switches the telemetry
of libraries off that are imported after it, in this process and those that it starts.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from hasten import telemetry

if TYPE_CHECKING:
    from hasten.api import (
        Data,
        Way,
        convert,
        distill,
        finetune,
        load,
        optimize,
        prune,
        quantize,
    )
    from hasten.bundle import Bundle, Manifest
    from hasten.compress.train_quantized import qat
    from hasten.data import Preprocessing, Samples
    from hasten.errors import HastenError
    from hasten.graph import InputSpec, Model, Signature, TensorSpec
    from hasten.train.torch_weights import to_torch
    from hasten.tune.budget import Budget
    from hasten.tune.recipe import Recipe
    from hasten.tune.settings import Settings

__all__ = [
    "optimize",
    "convert",
    "quantize",
    "prune",
    "distill",
    "finetune",
    "load",
    "qat",
    "to_torch",
    "Bundle",
    "Data",
    "Way",
    "Samples",
    "Preprocessing",
    "Budget",
    "Settings",
    "Recipe",
    "Manifest",
    "Model",
    "Signature",
    "TensorSpec",
    "InputSpec",
    "HastenError",
]

_HOMES = {
    "optimize": "hasten.api",
    "convert": "hasten.api",
    "quantize": "hasten.api",
    "prune": "hasten.api",
    "distill": "hasten.api",
    "finetune": "hasten.api",
    "load": "hasten.api",
    "qat": "hasten.compress.train_quantized",
    "to_torch": "hasten.train",
    "Bundle": "hasten.bundle",
    "Data": "hasten.api",
    "Way": "hasten.api",
    "Samples": "hasten.data",
    "Preprocessing": "hasten.data",
    "Budget": "hasten.tune.budget",
    "Settings": "hasten.tune.settings",
    "Recipe": "hasten.tune.recipe",
    "Manifest": "hasten.bundle",
    "Model": "hasten.graph",
    "Signature": "hasten.graph",
    "TensorSpec": "hasten.graph",
    "InputSpec": "hasten.graph",
    "HastenError": "hasten.errors",
}


telemetry.switch_off()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hasten' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
