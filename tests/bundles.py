"""A small bundle to be written, damaged and opened, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hasten.bundle import Bundle, Manifest, PlanRecord, write_bundle
from hasten.errors import BundleError, OutputError
from hasten.graph import (
    Model,
    model_from_proto,
)
from hasten.runtimes import Lowered, get_runtime
from manifests import evidence
from onnx_models import linear

__all__ = ["EXECUTION", "FEED", "complaint", "edit", "net", "plan", "refusal", "snapshot", "write"]


EXECUTION = {"threads": 1, "instances": 1, "batch": 1, "hint": "default", "device": "cpu"}
FEED = {"x": np.arange(8, dtype=np.float32).reshape(2, 4)}


def net() -> Model:
    return model_from_proto(linear(), "linear")


def plan(runtime: str = "onnxruntime", hint: str = "default") -> PlanRecord:
    return PlanRecord(
        steps=(),
        runtime=runtime,
        execution=EXECUTION | {"hint": hint},
        serving={"max_batch_size": 8},
    )


def write(path: Path, *, lowered: Lowered | None = None, **changes: Any) -> Manifest:
    if lowered is None:
        scratch = path.parent / "scratch"
        scratch.mkdir(exist_ok=True)
        lowered = get_runtime("onnxruntime").lower(net(), scratch)
    fields: dict[str, Any] = {
        "name": "linear",
        "lowered": lowered,
        "plan": plan(),
        "evidence": evidence(),
        "environment": {"cores": 2},
        "pages": {"report.html": lambda manifest: f"<h1>{manifest.name}</h1>"},
    }
    return write_bundle(path, **(fields | changes))


def edit(place: Path, change: Callable[[dict[str, Any]], None]) -> None:
    record = json.loads((place / "bundle.json").read_bytes())
    change(record)
    (place / "bundle.json").write_text(json.dumps(record))


def complaint(place: Path) -> str:
    with pytest.raises(BundleError) as raised:
        Bundle.open(place)
    message = str(raised.value)
    assert "\n" not in message
    return message


def refusal(path: Path, **changes: Any) -> str:
    with pytest.raises(OutputError) as raised:
        write(path, **changes)
    message = str(raised.value)
    assert "\n" not in message
    return message


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
