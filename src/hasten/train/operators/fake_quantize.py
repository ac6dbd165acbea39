"""Fake quantization: values as int8 would hold them, with gradients straight through the rounding.

These two operators stand in a training graph only, where the deployed graph has pairs of
QuantizeLinear and DequantizeLinear: see ``hasten.train.training_graph``.
"""

from __future__ import annotations

import math

import torch

from hasten.train.operators.table import Node, Operator

__all__ = ["ACTIVATION", "DOMAIN", "OPERATORS", "WEIGHT", "fake_quantized_weight", "range_of"]

DOMAIN = "hasten.train"
ACTIVATION = "FakeQuantize"
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
    al., "LSQ+" (arXiv 2004.09576). Else it is observed: in training, a moving average.
    """
    if growth is None and node.mode.training:
        with torch.no_grad():
            # A Relu or Clip before it was left to its range, which must not grow past theirs.
            low = x.amin().clamp(min=node.number("floor", -math.inf), max=0)
            high = x.amax().clamp(min=0, max=node.number("ceiling", math.inf))
            limits.lerp_(torch.stack([low, high]), _MOMENTUM)
    low, high = range_of(limits, growth)
    lowest, highest = node.integer("lowest"), node.integer("highest")
    # A range of zeros holds zero alone, whatever the step is.
    scale = ((high - low) / (highest - lowest)).clamp(min=torch.finfo(torch.float32).tiny)
    zero_point = lowest - low / scale
    if growth is None or not torch.is_grad_enabled():
        return torch.fake_quantize_per_tensor_affine(
            x, scale, zero_point.round().to(torch.int32), lowest, highest
        )
    return torch._fake_quantize_learnable_per_tensor_affine(
        x, scale.reshape(1), zero_point.reshape(1), lowest, highest, 1.0
    )


def range_of(
    limits: torch.Tensor, growth: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the low and the high end of an activation's range."""
    grown = limits if growth is None else limits * growth.exp()
    return grown[0], grown[1]


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
        others = [at for at in range(weight.ndim) if at != axis]
        scale = weight.abs().amax(dim=others, keepdim=True) / peak
        tiny = torch.finfo(weight.dtype).tiny
        scale = torch.where(scale < tiny, torch.ones_like(scale), scale)
        rounded = (weight / scale).round().clamp(-peak, peak) * scale
    return weight + (rounded - weight).detach()


OPERATORS: dict[str, Operator] = {
    f"{DOMAIN}::{ACTIVATION}": _activation,
    f"{DOMAIN}::{WEIGHT}": _weight,
}
