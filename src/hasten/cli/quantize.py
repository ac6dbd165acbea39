"""``hasten quantize``: a model in int8."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hasten.api import quantize as quantize_model
from hasten.cli.output import print_compression
from hasten.cli.single_step import SingleStep
from hasten.compress import StaticInt8

__all__ = ["quantize"]

_AS_USUAL = SingleStep()


def quantize(
    model: str,
    *,
    out: Path,
    calibrator: Literal["minmax", "percentile", "mse", "entropy"] = "minmax",
    activations: Literal["u8", "s8"] = "u8",
    weights: Literal["w8", "w7"] = "w8",
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
        Unsigned or signed; runtimes differ in which is fast.
    weights
        Bits of a weight: w7 where products of 8 bits saturate.
    """
    steps = (StaticInt8(activations, weights, calibrator),)
    found = quantize_model(model, single.samples(), out=out, steps=steps, way=single.way())
    return print_compression(found, as_json=single.json)
