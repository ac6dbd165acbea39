"""Networks that benchmarks train: kept in the cache folder, trained again only if they change.

``HASTEN_BENCHMARK_DEVICE=cuda`` trains them on a GPU; what is measured runs on the processor.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import msgspec
import numpy as np
import onnx

from hasten.cache_folder import cache_folder
from hasten.compress import Context, StepConfig, applied, apply_step
from hasten.data import METRICS, Samples
from hasten.graph import Model, load
from hasten.runtimes import Execution, get_runtime

__all__ = ["Stage", "accuracy", "device", "outputs", "trained"]

_BATCH = 16


class Stage(NamedTuple):
    """A model after its steps, the processor time they took in seconds, and on which device.

    Two cores that were busy for half an hour count as 3,600 s, however many trainings shared them.
    """

    model: Model
    core_seconds: float
    device: str


def device() -> Literal["cpu", "cuda"]:
    """Return where to train."""
    named = os.environ.get("HASTEN_BENCHMARK_DEVICE", "cpu")
    if named not in {"cpu", "cuda"}:
        raise ValueError(f"HASTEN_BENCHMARK_DEVICE is cpu or cuda, not {named}")
    return cast("Literal['cpu', 'cuda']", named)


def trained(name: str, model: Model, steps: Sequence[StepConfig], context: Context) -> Stage:
    """Apply the steps, or read what they made before of this very model.

    The device is not part of what they are: a network trained on one is measured on another.
    """
    recipe = [applied(step).config | {"step": applied(step).step, "device": ""} for step in steps]
    teacher = context.teacher.digest if isinstance(context.teacher, Model) else ""
    known = repr((model.digest, recipe, teacher)).encode()
    folder = cache_folder() / "benchmarks"
    path = folder / f"{name}-{hashlib.sha256(known).hexdigest()[:12]}.onnx"
    if path.exists():
        said = msgspec.json.decode(path.with_suffix(".json").read_bytes())
        read = load(path, scratch=context.scratch)
        made = tuple(applied(step) for step in steps)
        kept = Model(model.name, read.content, read.signature, (*model.steps, *made))
        return Stage(kept, said["core_seconds"], said["device"])
    begin = _core_seconds()
    for step in steps:
        model = apply_step(model, step, context)
    core_seconds = _core_seconds() - begin
    folder.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_bytes(
        msgspec.json.encode({"core_seconds": core_seconds, "device": device()})
    )
    part = path.with_suffix(".part")
    onnx.save(model.graph, part)
    part.rename(path)
    return Stage(model, core_seconds, device())


def outputs(
    model: Model, samples: Samples, scratch: Path, runtime: str = "onnxruntime"
) -> np.ndarray:
    """Return the first output for all samples, as a runtime computes it."""
    which = get_runtime(runtime)
    lowered = which.lower(model, scratch)
    session = which.open(lowered, Execution(threads=os.cpu_count() or 1))
    signature = lowered.signature
    name = signature.outputs[0].name
    try:
        parts = [
            np.array(session.run(feed)[name])[:valid]
            for feed, valid in samples.batches(signature, 1 if runtime == "litert" else _BATCH)
        ]
    finally:
        session.close()
    return np.concatenate(parts)


def accuracy(answers: np.ndarray, samples: Samples) -> float:
    """Top-1 in percent."""
    return 100 * METRICS["top1"].evaluate({"y": answers}, samples.labels, None).value


def _core_seconds() -> float:
    """Processor time so far: of all threads, and of the children that ended."""
    return sum(os.times()[:4])
