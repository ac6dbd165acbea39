"""``hasten quantize``: a model in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hasten.api import quantize as quantize_model
from hasten.cli.options import Flag, seconds
from hasten.cli.output import print_compression
from hasten.cli.single_step import SingleStep, named_as_flags
from hasten.compress import Equalize, SmoothActivations, StaticInt8, StepConfig

__all__ = ["quantize"]

_AS_USUAL = SingleStep()


def quantize(
    model: str,
    *,
    out: Path,
    calibrator: Literal["minmax", "percentile", "mse", "entropy"] = "minmax",
    activations: Literal["u8", "s8", "s16"] = "u8",
    weights: Literal["w8", "w7", "w4"] = "w8",
    rounding: Literal["nearest", "adaptive"] = "nearest",
    equalize: Flag = False,
    smooth: float | None = None,
    time: str = "5m",
    single: SingleStep = _AS_USUAL,
) -> int:
    """Write a model in int8, with figures of before and after.

    Parameters
    ----------
    model
        A path (.onnx, .tflite, .pt2) or package.module:callable that returns an nn.Module.
    out
        The file to write: .onnx, or .tflite for LiteRT.
    calibrator
        How the range of a tensor is found.
    activations
        Unsigned or signed, or signed of 16 bits; runtimes differ in which is fast.
    weights
        Bits of a weight: w7 where products of 8 bits saturate, w4 for a file that compresses well.
    rounding
        adaptive chooses each level by what the layer gives for the samples.
    equalize
        Rescale channels across layers first, which helps where their ranges differ widely.
    smooth
        Move difficulty from activations to weights first (SmoothQuant), by this share: 0.5.
    time
        Where more than --max-drop is lost, blocks that stay in float are looked for: end in time.
    """
    steps: list[StepConfig] = [Equalize()] if equalize else []
    with named_as_flags(alpha="smooth"):
        if smooth is not None:
            steps.append(SmoothActivations(smooth))
    steps.append(StaticInt8(activations, weights, calibrator, rounding=rounding))
    found = quantize_model(
        model,
        single.samples(),
        out=out,
        steps=steps,
        way=single.way(),
        search_s=seconds(time),
    )
    return print_compression(found, as_json=single.json)
