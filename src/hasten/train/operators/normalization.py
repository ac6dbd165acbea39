"""Normalization over a batch, over channels or over the last axes."""

from __future__ import annotations

import torch
from torch.nn import functional as f

from hasten.train.operators.table import Node, Operator, Refusal

__all__ = ["OPERATORS", "REFUSALS"]

#: From this opset on GroupNormalization scales channels; before, groups.
_PER_CHANNEL = 21
#: What MeanVarianceNormalization adds to the deviation that it divides by.
_LEAST_DEVIATION = 1e-9


def _batch_normalization(
    node: Node,
    x: torch.Tensor,
    scale: torch.Tensor,
    bias: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
) -> torch.Tensor:
    """Normalize by the batch in training, which moves the running statistics; else by those.

    Statistics that the graph computes, as of a weight that is standardised, are taken as they come,
    and gradients flow through them.
    """
    epsilon = node.number("epsilon", 1e-5)
    if mean.requires_grad or variance.requires_grad:
        along = (-1, *[1] * (x.ndim - 2))
        factor = scale * torch.rsqrt(variance + epsilon)
        return (x - mean.reshape(along)) * factor.reshape(along) + bias.reshape(along)
    return f.batch_norm(
        x,
        mean,
        variance,
        scale,
        bias,
        training=node.mode.training and not (node.mode.batch_norm_frozen or node.frozen),
        momentum=1.0 - node.number("momentum", 0.9),
        eps=epsilon,
    )


def _layer_normalization(
    node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    axis = node.integer("axis", -1) % x.ndim
    epsilon = node.number("epsilon", 1e-5)
    normal = f.layer_norm(x, x.shape[axis:], eps=epsilon) * scale
    made = normal if bias is None else normal + bias
    if len(node.proto.output) == 1:
        return made
    over = tuple(range(axis, x.ndim))
    mean = x.mean(dim=over, keepdim=True)
    variance = (x - mean).square().mean(dim=over, keepdim=True)
    return made, mean, torch.rsqrt(variance + epsilon)


def _rms_normalization(node: Node, x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis", -1) % x.ndim
    return f.rms_norm(x, x.shape[axis:], eps=node.number("epsilon", 1e-5)) * scale


def _instance_normalization(
    node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    return f.instance_norm(x, weight=scale, bias=bias, eps=node.number("epsilon", 1e-5))


def _group_normalization(
    node: Node, x: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    groups = node.integer("num_groups", 1)
    if node.opset < _PER_CHANNEL:
        channels = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(channels), bias.repeat_interleave(channels)
    return f.group_norm(x, groups, scale, bias, eps=node.number("epsilon", 1e-5))


def _lp_normalization(node: Node, x: torch.Tensor) -> torch.Tensor:
    return f.normalize(x, p=node.number("p", 2), dim=node.integer("axis", -1))


def _lrn(node: Node, x: torch.Tensor) -> torch.Tensor:
    return f.local_response_norm(
        x,
        node.integer("size", 1),
        alpha=node.number("alpha", 1e-4),
        beta=node.number("beta", 0.75),
        k=node.number("bias", 1.0),
    )


def _mean_variance_normalization(node: Node, x: torch.Tensor) -> torch.Tensor:
    axes = node.integers("axes", [0, 2, 3])
    mean = x.mean(dim=axes, keepdim=True)
    deviation = (x.square().mean(dim=axes, keepdim=True) - mean.square()).sqrt()
    return (x - mean) / (deviation + _LEAST_DEVIATION)


def _refuse_training_mode(node: Node) -> str:
    training = node.integer("training_mode") or len(node.proto.output) > 1
    return "it is in training mode already" if training else ""


OPERATORS: dict[str, Operator] = {
    "BatchNormalization": _batch_normalization,
    "GroupNormalization": _group_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LayerNormalization": _layer_normalization,
    "LpNormalization": _lp_normalization,
    "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization,
}

REFUSALS: dict[str, Refusal] = {"BatchNormalization": _refuse_training_mode}
