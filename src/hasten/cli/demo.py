"""``hasten demo``: the main job on real data, through the same path as ``optimize``."""

from __future__ import annotations

from pathlib import Path

from hasten.api import Data
from hasten.api import optimize as optimize_model
from hasten.cli.options import Flag, seconds
from hasten.cli.output import print_manifest
from hasten.cli.progress import shown
from hasten.demo.build import HELD_OUT, PREPROCESSING, TRAINING, build_demo
from hasten.graph import parse_input
from hasten.tune.budget import Budget
from hasten.tune.settings import Settings

__all__ = ["demo"]

_MODEL = "hasten.demo.network:lite0"
_INPUT = "image=float32[batch,3,224,224]"
_MAX_DROP = 0.005


def demo(
    *,
    out: Path = Path("lite0.hasten"),
    time: str = "172s",
    seed: int = 0,
    force: Flag = False,
    json: Flag = False,
) -> int:
    """Find defects in photographs of solar cells, as fast as this machine can.

    EfficientNet-Lite0 with a logistic head on the ELPV dataset. Builds both once into the cache
    ($HASTEN_CACHE), then does what this command does:

    hasten optimize hasten.demo.network:lite0 --data CACHE/demo/held-out
    --calibration CACHE/demo/training --preprocess size=224x224,mean=...,std=...
    --input image=float32[batch,3,224,224] --max-drop 0.005 --time 172s --out lite0.hasten

    Parameters
    ----------
    out
        The bundle to write, a folder.
    time
        Stop in time, with the best so far. A slow or busy machine wants more.
    seed
        Decides splits and orders.
    force
        Replace the bundle that is there.
    json
        Print bundle.json instead of tables.
    """
    settings = Settings(time_s=seconds(time), seed=seed)
    progress = shown()
    folder = build_demo(progress)
    manifest = optimize_model(
        _MODEL,
        Data(folder / HELD_OUT, folder / TRAINING, preprocessing=PREPROCESSING),
        out=out,
        inputs=[parse_input(_INPUT)],
        budget=Budget(_MAX_DROP),
        settings=settings,
        force=force,
        progress=progress,
    )
    return print_manifest(manifest, out, as_json=json)
