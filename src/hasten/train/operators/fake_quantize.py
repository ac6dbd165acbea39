"""Fake quantization: values as int8 would hold them, with gradients straight through the rounding.

These operators stand in a training graph only: see ``hasten.train.training_graph``. Scales, zero
points and integers are tensors of it too, computed from what is trained as they are written.
"""

from __future__ import annotations

import math

import torch

from hasten.train.operators.table import Node, Operator

__all__ = [
    "ACTIVATION",
    "BIAS",
    "CONSTANT_SCALE",
    "DOMAIN",
    "OPERATORS",
    "RANGE",
    "WEIGHT",
    "WEIGHT_SCALE",
]

DOMAIN = "hasten.train"
ACTIVATION = "FakeQuantize"
BIAS = "FakeQuantizeBias"
CONSTANT_SCALE = "ConstantScale"
RANGE = "Range"
WEIGHT = "FakeQuantizeWeight"
WEIGHT_SCALE = "WeightScale"

#: How far an observed range moves towards that of a batch.
_MOMENTUM = 0.05
#: A bias of int32 keeps this far from the ends: ONNX Runtime's writer does.
_BIAS_MARGIN = 1.0001
_BIAS_SPAN = 2.0 * (2**31 - 1)
_LEAST_SCALE = torch.finfo(torch.float32).tiny


def _range(
    node: Node, limits: torch.Tensor, growth: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return scale, zero point, and that as a float, of the range ``limits`` = (low, high).

    With ``growth`` the range is learned: both ends are multiplied by e to its power, which keeps
    zero inside and makes a step of training relative to the range, as in Jain et al., "Trained
    Quantization Thresholds", MLSys 2020 (arXiv 1903.08066). Limits are float64, so that a scale and
    a zero point which nothing has changed come out as they went in.
    """
    lowest, highest = node.integer("lowest"), node.integer("highest")
    low, high = limits if growth is None else limits * growth.double().exp()
    # A range of one point would hold zero alone, as the least scale does.
    step = ((high - low) / (highest - lowest)).clamp(min=_LEAST_SCALE)
    offset = (lowest - low / step).clamp(lowest, highest)
    return step.float(), offset.detach().round().to(torch.int32), offset.float()


def _activation(
    node: Node,
    x: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    limits: torch.Tensor | None = None,
) -> torch.Tensor:
    """Quantize with a scale and a zero point, which is a float and becomes the nearest integer.

    Their gradients are those of Esser et al., "Learned Step Size Quantization", ICLR 2020 (arXiv
    1902.08153), and Bhalgat et al., "LSQ+" (arXiv 2004.09576). With ``limits`` the range is
    observed: in training they are a moving average of what is seen.
    """
    if limits is not None and node.mode.training:
        _observe(node, x, limits)
    lowest, highest = node.integer("lowest"), node.integer("highest")
    scale = scale.to(x.device)
    zero_point = offset.detach().round().to(x.device)
    if not (torch.is_grad_enabled() and scale.requires_grad):
        return torch.fake_quantize_per_tensor_affine(
            x, scale, zero_point.to(torch.int32), lowest, highest
        )
    # The same number in training and in use, with the gradient of the one before rounding.
    learned = offset + (zero_point - offset).detach()
    return torch._fake_quantize_learnable_per_tensor_affine(
        x, scale.reshape(1), learned.reshape(1), lowest, highest, 1.0
    )


def _observe(node: Node, x: torch.Tensor, limits: torch.Tensor) -> None:
    with torch.no_grad():
        # A Relu or Clip before it was left to its range, which must not grow past theirs.
        low = x.amin().clamp(min=node.number("floor", -math.inf), max=0)
        high = x.amax().clamp(min=0, max=node.number("ceiling", math.inf))
        limits.lerp_(torch.stack([low, high]).to(limits), _MOMENTUM)


def _weight_scale(node: Node, weight: torch.Tensor, *biased: torch.Tensor) -> torch.Tensor:
    """Return the scale of a weight by its largest value, one per index of ``axis`` where given.

    ``biased`` are pairs of a bias and the scale of the input beside it: a bias is int32 in units of
    both scales' product, so the weight's is at least what its bias fits into.
    """
    axis = node.integer("axis") if "axis" in node.attributes else None
    with torch.no_grad():
        scale = _peak_scale(weight, axis, node.integer("peak", 127))
        for bias, step in zip(biased[::2], biased[1::2], strict=True):
            peak = bias.abs() if axis is not None else bias.abs().amax()
            least = (_BIAS_MARGIN * 2 / _BIAS_SPAN) * peak.double() / step.double().to(bias.device)
            scale = torch.maximum(scale, least.reshape(-1).float())
        return scale if axis is not None else scale.reshape(())


def _constant_scale(
    node: Node, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return scale, zero point, and that as a float, that hold a constant's values and zero."""
    with torch.no_grad():
        ends = torch.stack([value.amin().clamp(max=0), value.amax().clamp(min=0)]).double()
        lowest, highest = node.integer("lowest"), node.integer("highest")
        step = (ends[1] - ends[0]) / (highest - lowest)
        if step < _LEAST_SCALE:
            step, ends = torch.ones_like(step), torch.full_like(ends, float(lowest))
        offset = (lowest - ends[0] / step).round()
    return step.float(), offset.to(torch.int32), offset.float()


def _weight(
    node: Node, weight: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a weight as its integers hold it, and these; the gradient is the weight's own.

    Source: Bengio et al. (arXiv 1308.3432).
    """
    lowest, highest = node.integer("lowest", -128), node.integer("highest", 127)
    if "axis" in node.attributes:
        along = [1] * weight.ndim
        along[node.integer("axis")] = -1
        scale = scale.reshape(along)
    with torch.no_grad():
        shift = 0.0 if zero_point is None else zero_point.to(weight.device, weight.dtype)
        integers = ((weight / scale).round() + shift).clamp(lowest, highest)
        rounded = (integers - shift) * scale
    return weight + (rounded - weight).detach(), integers.to(torch.int32)


def _peak_scale(weight: torch.Tensor, axis: int | None, peak: int) -> torch.Tensor:
    """Return the scales, [channels] or [1], at which the largest value is the largest integer."""
    others = [at for at in range(weight.ndim) if at != axis]
    largest = weight.abs().amax(dim=others) if others else weight.abs()
    scale = (largest.double() / peak).float().reshape(-1)
    return torch.where(scale < _LEAST_SCALE, torch.ones_like(scale), scale)


def _bias(
    node: Node, bias: torch.Tensor, step: torch.Tensor, weight_scale: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return a bias as int32 with the scale of the products holds it, its integers, and the scale.

    ``step`` is the scale of the input; the scale is [1] or one for each channel.
    """
    with torch.no_grad():
        factor = node.number("beta", 1.0)
        scale = step.to(weight_scale.device) * weight_scale.reshape(-1) * factor
        integers = (bias.double() / scale.double()).round().clamp(-(2**31), 2**31 - 1)
        rounded = integers.float() * scale
    return bias + (rounded - bias).detach(), integers.to(torch.int32), scale


OPERATORS: dict[str, Operator] = {
    f"{DOMAIN}::{ACTIVATION}": _activation,
    f"{DOMAIN}::{BIAS}": _bias,
    f"{DOMAIN}::{CONSTANT_SCALE}": _constant_scale,
    f"{DOMAIN}::{RANGE}": _range,
    f"{DOMAIN}::{WEIGHT}": _weight,
    f"{DOMAIN}::{WEIGHT_SCALE}": _weight_scale,
}
