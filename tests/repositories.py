"""Bundles, model files and repositories on disk, and what is found there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from hasten.bundle import PlanRecord, write_bundle
from hasten.errors import HastenError
from hasten.graph import model_from_proto
from hasten.runtimes import get_runtime
from hasten.serve.repository import Servable, VersionSource, find_models
from manifests import evidence
from onnx_models import linear, model, value

__all__ = ["fixed_batch", "only", "put_bundle", "put_onnx", "refused", "runs"]


def put_onnx(path: Path, proto: onnx.ModelProto | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto or linear(), path)
    return path


def put_bundle(path: Path, name: str = "linear", **changes: Any) -> Path:
    scratch = path.parent / f".{path.name}.scratch"
    scratch.mkdir(parents=True)
    plan = {
        "steps": (),
        "runtime": "onnxruntime",
        "execution": {"threads": 1, "instances": 2, "batch": 1, "hint": "default", "device": "cpu"},
        "serving": {"max_batch_size": 8, "preprocessing": {}},
    }
    write_bundle(
        path,
        name=name,
        lowered=get_runtime("onnxruntime").lower(model_from_proto(linear(), name), scratch),
        plan=PlanRecord(**(plan | changes)),
        evidence=evidence(),
        environment={},
        pages={},
    )
    return path


def only(path: Path, settings: str | None = None) -> Servable:
    """The one model at this path."""
    (place,) = find_models(path, settings).places.values()
    return place.open()


def fixed_batch() -> onnx.ModelProto:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    return model([node], [value("x", [1, 4])], [value("y", [1, 4])])


def runs(source: VersionSource) -> None:
    """See that its runtime opens and runs it."""
    session = get_runtime(source.runtime).open(source.lowered, source.execution)
    feed = {
        spec.name: np.ones([dim or 1 for dim in spec.shape], spec.dtype)
        for spec in source.lowered.signature.inputs
    }
    outputs = session.run(feed)
    session.close()
    assert set(outputs) == {spec.name for spec in source.lowered.signature.outputs}


def refused(path: Path, settings: str | None = None) -> str:
    """Why nothing is served that is at this path."""
    with pytest.raises(HastenError) as caught:
        only(path, settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)
