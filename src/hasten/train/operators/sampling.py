"""Values of images at places that are computed."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as f

from hasten.train.operators.table import Node, Operator, Refusal, integers

__all__ = ["OPERATORS", "REFUSALS"]

#: The names of interpolations: from opset 20 on they are those of any number of axes.
_MODES = {
    "bilinear": "bilinear",
    "linear": "bilinear",
    "nearest": "nearest",
    "bicubic": "bicubic",
    "cubic": "bicubic",
}


def _grid_sample(node: Node, x: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
    return f.grid_sample(
        x,
        grid.to(x.device, x.dtype),
        mode=_MODES[node.text("mode", "linear")],
        padding_mode=node.text("padding_mode", "zeros"),
        align_corners=bool(node.integer("align_corners")),
    )


def _affine_grid(node: Node, theta: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    return f.affine_grid(theta, integers(size), align_corners=bool(node.integer("align_corners")))


def _columns_to_image(
    node: Node, x: torch.Tensor, size: torch.Tensor, block: torch.Tensor
) -> torch.Tensor:
    """Add up blocks, [n, channels * block, places], where they overlap, in any number of axes."""
    shape, kernel = integers(size), integers(block)
    rank = len(shape)
    pads = node.integers("pads", [0] * 2 * rank)
    strides, dilations = (node.integers(one, [1] * rank) for one in ("strides", "dilations"))
    whole = [one + pads[at] + pads[rank + at] for at, one in enumerate(shape)]
    at = torch.zeros([1] * 2 * rank, dtype=torch.int64, device=x.device)
    for axis, (length, side) in enumerate(zip(whole, kernel, strict=True)):
        count = (length - dilations[axis] * (side - 1) - 1) // strides[axis] + 1
        taps = torch.arange(side, device=x.device) * dilations[axis]
        starts = torch.arange(count, device=x.device) * strides[axis]
        along = [1] * 2 * rank
        along[axis], along[rank + axis] = side, count
        at = at * length + (taps[:, None] + starts).reshape(along)
    columns = x.reshape(len(x), -1, at.numel())
    y = x.new_zeros(len(x), columns.shape[1], math.prod(whole))
    y = y.index_add(2, at.reshape(-1), columns).reshape(*y.shape[:2], *whole)
    for axis, length in enumerate(shape):
        y = y.narrow(2 + axis, pads[axis], length)
    return y


def _refuse_mode(node: Node) -> str:
    mode = node.text("mode", "linear")
    return "" if mode in _MODES else f"mode {mode}"


OPERATORS: dict[str, Operator] = {
    "AffineGrid": _affine_grid,
    "Col2Im": _columns_to_image,
    "GridSample": _grid_sample,
}

REFUSALS: dict[str, Refusal] = {"GridSample": _refuse_mode}
