"""Candidates for worker processes: small models lowered for a runtime, with samples to run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from hasten.measure.process import Worker
from hasten.measure.protocol import Opened
from hasten.runtimes import Execution, Lowered, get_runtime
from onnx_models import linear

#: More than a process needs to start, far less than anyone waits for a hang.
LIMIT_S = 60.0


def null_model(**behaviour: object) -> Model:
    """x[n,4] to zeros y[n,3], at the cost and with the failures that are named."""
    proto = linear()
    helper.set_model_props(proto, {f"hasten.null.{k}": str(v) for k, v in behaviour.items()})
    return model_from_proto(proto, "null")


def lowered(runtime: str, proto: onnx.ModelProto | Model, folder: Path) -> Lowered:
    model = proto if isinstance(proto, Model) else model_from_proto(proto, "net")
    return get_runtime(runtime).lower(model, folder)


def saved_samples(folder: Path, count: int = 5) -> Path:
    """Samples for x[n,4], each row of its own value."""
    rows = np.arange(count, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    Samples({"x": rows}).save(folder)
    return folder


def open_null(
    worker: Worker,
    folder: Path,
    *,
    limit_s: float = LIMIT_S,
    execution: Execution | None = None,
    **behaviour: object,
) -> Opened:
    """Open a null candidate with these ways."""
    samples = saved_samples(folder / "samples")
    candidate = lowered("null", null_model(**behaviour), folder)
    return worker.open("null", candidate, execution or Execution(), samples, limit_s)
