"""Fake quantization: values as int8 would hold them, with gradients straight through the rounding.

These operators stand in a training graph only, where the deployed graph has pairs of
QuantizeLinear and DequantizeLinear: see ``hasten.train.training_graph``.
"""

from __future__ import annotations

import math

import torch

from hasten.train.operators.table import Node, Operator

__all__ = ["ACTIVATION", "BIAS", "DOMAIN", "OPERATORS", "WEIGHT", "fake_quantized_weight"]

DOMAIN = "hasten.train"
ACTIVATION = "FakeQuantize"
BIAS = "FakeQuantizeBias"
WEIGHT = "FakeQuantizeWeight"

#: How far an observed range moves towards that of a batch.
_MOMENTUM = 0.05


def _activation(
    node: Node, x: torch.Tensor, limits: torch.Tensor, growth: torch.Tensor | None = None
) -> torch.Tensor:
    """Quantize to the range ``limits`` = (low, high), which training may grow or shrink.

    With ``growth`` it is learned: both ends are multiplied by e to its power, which keeps zero
    inside and makes a step of training relative to the range, as in Jain et al., "Trained
    Quantization Thresholds", MLSys 2020 (arXiv 1903.08066). The gradients to the ends are those of
    Esser et al., "Learned Step Size Quantization", ICLR 2020 (arXiv 1902.08153), and Bhalgat et
    al., "LSQ+" (arXiv 2004.09576). Else it is observed: in training, a moving average,
    unless it is ``fixed``.
    """
    if growth is None and node.mode.training and not node.integer("fixed"):
        with torch.no_grad():
            # A Relu or Clip before it was left to its range, which must not grow past theirs.
            low = x.amin().clamp(min=node.number("floor", -math.inf), max=0)
            high = x.amax().clamp(min=0, max=node.number("ceiling", math.inf))
            limits.lerp_(torch.stack([low, high]), _MOMENTUM)
    lowest, highest = node.integer("lowest"), node.integer("highest")
    scale = _activation_scale(node, limits, growth)
    low = limits[0] if growth is None else limits[0] * growth[0].exp()
    zero_point = lowest - low / scale
    if growth is None or not torch.is_grad_enabled():
        return torch.fake_quantize_per_tensor_affine(
            x, scale, zero_point.round().to(torch.int32), lowest, highest
        )
    return torch._fake_quantize_learnable_per_tensor_affine(
        x, scale.reshape(1), zero_point.reshape(1), lowest, highest, 1.0
    )


def _activation_scale(
    node: Node, limits: torch.Tensor, growth: torch.Tensor | None
) -> torch.Tensor:
    """Return the step between levels; one that is 0 would hold zero alone, as the least does."""
    low, high = limits if growth is None else limits * growth.exp()
    levels = node.integer("highest") - node.integer("lowest")
    step: torch.Tensor = (high - low) / levels
    return step.clamp(min=torch.finfo(torch.float32).tiny)


def _weight(node: Node, weight: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis") if "axis" in node.attributes else None
    return fake_quantized_weight(weight, axis, node.integer("peak", 127))


def fake_quantized_weight(weight: torch.Tensor, axis: int | None, peak: int) -> torch.Tensor:
    """Return what int8 keeps of a weight, one scale per index of ``axis``, by its largest value.

    Without an axis there is one scale for all. The numbers are those of
    ``hasten.compress.weight_int8.quantize_weight``; the gradient is that of the weight itself
    (Bengio et al., arXiv 1308.3432).
    """
    with torch.no_grad():
        scale = _weight_scale(weight, axis, peak)
        rounded = (weight / scale).round().clamp(-peak, peak) * scale
    return weight + (rounded - weight).detach()


def _weight_scale(weight: torch.Tensor, axis: int | None, peak: int) -> torch.Tensor:
    others = [at for at in range(weight.ndim) if at != axis]
    scale = weight.abs().amax(dim=others, keepdim=True) / peak
    return torch.where(scale < torch.finfo(weight.dtype).tiny, torch.ones_like(scale), scale)


def _bias(
    node: Node,
    bias: torch.Tensor,
    weight: torch.Tensor,
    limits: torch.Tensor,
    growth: torch.Tensor | None = None,
) -> torch.Tensor:
    """Quantize to int32 with the scale of the products: the input's times the weight's."""
    axis = node.integer("axis") if "axis" in node.attributes else None
    with torch.no_grad():
        weight_scale = _weight_scale(weight, axis, node.integer("peak", 127)).reshape(-1)
        scale = _activation_scale(node, limits, growth) * weight_scale
        rounded = (bias / scale).round() * scale
    return bias + (rounded - bias).detach()


OPERATORS: dict[str, Operator] = {
    f"{DOMAIN}::{ACTIVATION}": _activation,
    f"{DOMAIN}::{BIAS}": _bias,
    f"{DOMAIN}::{WEIGHT}": _weight,
}
