"""Activation functions."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as f

from hasten.train.operators.table import Node, Operator

__all__ = ["OPERATORS"]

#: From this opset on softmax is along one axis; before, over all axes from it on.
_ONE_AXIS = 13


def _clip(
    node: Node,
    x: torch.Tensor,
    low: torch.Tensor | None = None,
    high: torch.Tensor | None = None,
) -> torch.Tensor:
    if low is None and high is None:
        least, most = node.attributes.get("min"), node.attributes.get("max")
        return x if least is None and most is None else torch.clamp(x, least, most)
    if x.is_floating_point():
        # With numbers as bounds torch's gradient is one kernel, a quarter of the time.
        return torch.clamp(
            x, None if low is None else low.item(), None if high is None else high.item()
        )
    return torch.clamp(x, low, high)


def _elu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return f.elu(x, node.number("alpha", 1.0))


def _celu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return f.celu(x, node.number("alpha", 1.0))


def _gelu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return f.gelu(x, approximate=node.text("approximate", "none"))


def _hard_sigmoid(node: Node, x: torch.Tensor) -> torch.Tensor:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:  # noqa: PLR2004 - as torch's own
        return f.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def _hard_swish(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return f.hardswish(x)


def _leaky_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return f.leaky_relu(x, node.number("alpha", 0.01))


def _log_softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    shape, axis = _softmax_axis(node, x)
    return f.log_softmax(x.reshape(shape), axis).reshape(x.shape)


def _mish(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return f.mish(x)


def _prelu(node: Node, x: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    del node
    return torch.clamp(x, min=0) + slope * torch.clamp(x, max=0)


def _relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return torch.relu(x)


def _selu(node: Node, x: torch.Tensor) -> torch.Tensor:
    alpha = node.number("alpha", 1.67326319217681884765625)
    return node.number("gamma", 1.05070102214813232421875) * f.elu(x, alpha)


def _sigmoid(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return torch.sigmoid(x)


def _softmax(node: Node, x: torch.Tensor) -> torch.Tensor:
    shape, axis = _softmax_axis(node, x)
    return f.softmax(x.reshape(shape), axis).reshape(x.shape)


def _softmax_axis(node: Node, x: torch.Tensor) -> tuple[list[int], int]:
    """Return the shape in which softmax is along one axis, and that axis."""
    if node.opset >= _ONE_AXIS:
        return list(x.shape), node.integer("axis", -1)
    axis = node.integer("axis", 1) % max(x.ndim, 1)
    return [math.prod(x.shape[:axis]), math.prod(x.shape[axis:])], 1


def _softplus(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return f.softplus(x)


def _softsign(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return f.softsign(x)


def _shrink(node: Node, x: torch.Tensor) -> torch.Tensor:
    edge, shift = node.number("lambd", 0.5), node.number("bias", 0.0)
    small = torch.where(x < -edge, x + shift, torch.zeros_like(x))
    return torch.where(x > edge, x - shift, small)


def _swish(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(node.number("alpha", 1.0) * x)


def _thresholded_relu(node: Node, x: torch.Tensor) -> torch.Tensor:
    return torch.where(x > node.number("alpha", 1.0), x, torch.zeros_like(x))


OPERATORS: dict[str, Operator] = {
    "Celu": _celu,
    "Clip": _clip,
    "Elu": _elu,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _log_softmax,
    "Mish": _mish,
    "PRelu": _prelu,
    "Relu": _relu,
    "Selu": _selu,
    "Shrink": _shrink,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Swish": _swish,
    "ThresholdedRelu": _thresholded_relu,
}
