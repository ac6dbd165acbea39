"""``hasten optimize``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hasten.api import Data
from hasten.api import optimize as optimize_model
from hasten.cli.options import Flag, Repeated, inputs_of, megabytes, seconds
from hasten.cli.output import print_manifest
from hasten.cli.progress import shown
from hasten.data.meaning import parse_outputs
from hasten.tune.budget import Budget
from hasten.tune.settings import Settings

__all__ = ["optimize"]


def optimize(
    model: str,
    *,
    out: Path,
    data: str | None = None,
    calibration: str | None = None,
    calibration_samples: int | None = None,
    recipe: Path | None = None,
    train: str | None = None,
    preprocess: str | None = None,
    input: Repeated = None,  # noqa: A002
    output: Repeated = None,
    metric: str | None = None,
    max_drop: float = 0.01,
    latency_ms: float | None = None,
    size_mb: float | None = None,
    memory_mb: float | None = None,
    target: Literal["latency", "throughput"] = "latency",
    runtime: Repeated = None,
    device: Repeated = None,
    delegate: Repeated = None,
    fail_on_fallback: Flag = False,
    threads: int | None = None,
    time: str = "5m",
    seed: int = 0,
    no_cache: Flag = False,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Turn a model and its data into the fastest version that keeps its accuracy.

    Parameters
    ----------
    model
        A path (.onnx, .tflite, .pt2) or package.module:callable that returns an nn.Module.
    out
        The bundle to write, a folder.
    data
        Samples: an .npz (one array per input, optional labels), a folder of images with a folder
        per class, or package.module:callable that yields batches.
    calibration
        Samples to find int8 ranges with; by default a part of --data is set aside for it.
    calibration_samples
        How many samples to calibrate with.
    recipe
        A TOML file of steps to apply in order, instead of those that race otherwise.
    train
        Samples for steps of the recipe that train.
    preprocess
        How pixels become the model's input: size=224x224,mean=0.5,std=0.5,layout=nchw,colour=rgb.
    input
        An input of a PyTorch model: name=float32[batch,3,224,224]. Repeat for each.
    output
        What an output is: name=kind, such as logits=scores; boxes, mask, embedding, regression and
        others, see docs/judging.md. Repeat for each.
    metric
        top1, fidelity or package.module:callable; by default top1 with labels, else fidelity.
    max_drop
        How much of the metric may be lost.
    latency_ms
        Goal for the median latency.
    size_mb
        Goal for the size of the model file.
    memory_mb
        Goal for the peak memory of a process that runs it.
    target
        One answer soon, or many answers a second.
    runtime
        Race only this runtime. Repeat for more.
    device
        Race only on this device: cpu or gpu. Repeat for more.
    delegate
        Race this LiteRT delegate too: lib.so:key=value,key=value. Repeat for more.
    fail_on_fallback
        Let a candidate fail where a delegate or device does not run the whole model.
    threads
        Use exactly so many threads.
    time
        Stop in time, with the best so far: 90s, 5m, 1h.
    seed
        Decides splits and orders.
    no_cache
        Apply every step of the recipe anew, and keep nothing of it.
    force
        Replace the bundle that is there.
    json
        Print bundle.json instead of tables.
    """
    manifest = optimize_model(
        model,
        Data(data, calibration, calibration_samples, preprocess, train),
        out=out,
        inputs=inputs_of(input),
        metric=metric,
        budget=Budget(
            max_drop,
            latency_ms,
            megabytes(size_mb, "--size-mb"),
            megabytes(memory_mb, "--memory-mb"),
        ),
        settings=Settings(
            target,
            tuple(runtime or ()),
            threads,
            seconds(time),
            seed,
            devices=tuple(device or ()),
            delegates=tuple(delegate or ()),
            fail_on_fallback=fail_on_fallback,
            outputs=parse_outputs(output or ()),
        ),
        recipe=recipe,
        cache=not no_cache,
        force=force,
        progress=shown(),
    )
    return print_manifest(manifest, out, as_json=json)
