"""Runtimes: one file each, behind one protocol; a vendor library is imported when opened."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from hasten.errors import OptionError
from hasten.runtimes.binding import bind, shapes_at
from hasten.runtimes.placement import PlacedOperator, Placement, Placing
from hasten.runtimes.runtime import (
    NO_DELEGATE,
    Arrays,
    Binding,
    Device,
    Execution,
    Format,
    Hint,
    Lowered,
    Probe,
    Runtime,
    Session,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "EXACT",
    "NO_DELEGATE",
    "RUNTIMES",
    "Arrays",
    "Binding",
    "Device",
    "Execution",
    "Format",
    "Hint",
    "Lowered",
    "PlacedOperator",
    "Placement",
    "Placing",
    "Probe",
    "Runtime",
    "Session",
    "any_runtime",
    "bind",
    "get_runtime",
    "shapes_at",
]


def _make(path: str, **settings: Any) -> Runtime:
    module, _, name = path.partition(":")
    runtime: Runtime = getattr(importlib.import_module(f"hasten.runtimes.{module}"), name)(
        **settings
    )
    return runtime


#: Every runtime by name. To add one, write its file and give it a line here.
RUNTIMES: dict[str, Callable[[], Runtime]] = {
    "onnxruntime": partial(_make, "onnxruntime:OnnxRuntime"),
    "openvino": partial(_make, "openvino:OpenVino"),
    "litert": partial(_make, "litert:LiteRT"),
    "pytorch": partial(_make, "pytorch:PyTorch"),
    "torch-compile": partial(_make, "pytorch:PyTorch", compiled=True),
    "null": partial(_make, "null:NullRuntime"),
}


#: ONNX Runtime that computes what the graph says, node by node. It is there to be compared with:
#: no candidate runs on it, and none can be chosen by its name.
EXACT = "onnxruntime-exact"


def any_runtime(name: str) -> Runtime:
    """Return the runtime of this name, or the one that others are compared with."""
    return _make("onnxruntime:OnnxRuntime", optimized=False) if name == EXACT else get_runtime(name)


def get_runtime(name: str) -> Runtime:
    """Return the runtime of this name; raises OptionError where there is none."""
    if name not in RUNTIMES:
        raise OptionError(expected=f"one of {', '.join(RUNTIMES)}", got=name, where="--runtime")
    return RUNTIMES[name]()
