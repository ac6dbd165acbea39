"""Pooling: the largest value or the mean of windows, and of whole images."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as f

from hasten.train.operators.table import Node, Operator, Refusal
from hasten.train.operators.windows import around, padding

__all__ = ["OPERATORS", "REFUSALS"]

_MAX = {1: f.max_pool1d, 2: f.max_pool2d, 3: f.max_pool3d}
_CONVOLUTION = {1: f.conv1d, 2: f.conv2d, 3: f.conv3d}
_MEAN = {1: f.avg_pool1d, 2: f.avg_pool2d, 3: f.avg_pool3d}


def _max_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    rank = x.ndim - 2
    kernel = node.integers("kernel_shape", [])
    before, after = padding(node, x.shape[2:], kernel)
    beyond = _beyond(node, x, kernel, before, after)
    if any((*before, *after, *beyond)):
        lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
        ends = [one + more for one, more in zip(after, beyond, strict=True)]
        x = f.pad(x, around(before, ends), value=lowest)
    return _MAX[rank](
        x,
        kernel,
        stride=node.integers("strides", [1] * rank),
        dilation=node.integers("dilations", [1] * rank),
    )


def _average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    rank = x.ndim - 2
    kernel = node.integers("kernel_shape", [])
    strides = node.integers("strides", [1] * rank)
    before, after = padding(node, x.shape[2:], kernel)
    beyond = _beyond(node, x, kernel, before, after)
    dilations = node.integers("dilations", [1] * rank)
    if not any((*before, *after, *beyond)) and set(dilations) == {1}:
        return _MEAN[rank](x, kernel, stride=strides)
    # A window's mean is over what counts in it: the image, and the padding where that counts.
    counts = torch.ones_like(x[:1, :1])
    pads = around(before, after)
    counts = f.pad(counts, pads, value=float(node.integer("count_include_pad")))
    counts = f.pad(counts, around([0] * rank, beyond))
    x = f.pad(f.pad(x, pads), around([0] * rank, beyond))
    if set(dilations) == {1}:
        return _MEAN[rank](x, kernel, stride=strides) / _MEAN[rank](counts, kernel, stride=strides)
    return _sums(x, kernel, strides, dilations) / _sums(counts, kernel, strides, dilations)


def _sums(
    x: torch.Tensor, kernel: list[int], strides: list[int], dilations: list[int]
) -> torch.Tensor:
    """Sum over windows, channel by channel."""
    rank, channels = x.ndim - 2, x.shape[1]
    ones = x.new_ones(channels, 1, *kernel)
    summed: torch.Tensor = _CONVOLUTION[rank](
        x, ones, stride=strides, dilation=dilations, groups=channels
    )
    return summed


def _lp_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    rank = x.ndim - 2
    kernel = node.integers("kernel_shape", [])
    strides = node.integers("strides", [1] * rank)
    before, after = padding(node, x.shape[2:], kernel)
    beyond = _beyond(node, x, kernel, before, after)
    power = node.integer("p", 2)
    powers = f.pad(x.abs() ** power, around(before, after))
    powers = f.pad(powers, around([0] * rank, beyond))
    dilations = node.integers("dilations", [1] * rank)
    return _sums(powers, kernel, strides, dilations) ** (1 / power)


def _global_lp_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    power = node.integer("p", 2)
    over = tuple(range(2, x.ndim))
    return (x.abs() ** power).sum(dim=over, keepdim=True) ** (1 / power)


def _beyond(
    node: Node, x: torch.Tensor, kernel: list[int], before: list[int], after: list[int]
) -> list[int]:
    """Return how far the last window of each axis reaches beyond the padded image."""
    rank = len(kernel)
    if not node.integer("ceil_mode"):
        return [0] * rank
    strides = node.integers("strides", [1] * rank)
    dilations = node.integers("dilations", [1] * rank)
    found = []
    for axis, (side, stride, dilation) in enumerate(zip(kernel, strides, dilations, strict=True)):
        reach = (side - 1) * dilation + 1
        size = x.shape[2 + axis] + before[axis] + after[axis]
        windows = -(-(size - reach) // stride) + 1
        if (windows - 1) * stride >= x.shape[2 + axis] + before[axis]:
            windows -= 1  # it would begin in the padding
        found.append(max((windows - 1) * stride + reach - size, 0))
    return found


def _global_average_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return x.mean(dim=tuple(range(2, x.ndim)), keepdim=True)


def _global_max_pool(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return x.amax(dim=tuple(range(2, x.ndim)), keepdim=True)


def _refuse_indices(node: Node) -> str:
    return "its indices are asked for" if len(node.proto.output) > 1 else ""


OPERATORS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "GlobalLpPool": _global_lp_pool,
    "GlobalMaxPool": _global_max_pool,
    "LpPool": _lp_pool,
    "MaxPool": _max_pool,
}

REFUSALS: dict[str, Refusal] = {"MaxPool": _refuse_indices}
