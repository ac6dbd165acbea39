"""Shapes: reading them, changing them, and moving values between axes."""

from __future__ import annotations

import math

import torch

from hasten.train.operators.table import Node, Operator, integers, together

__all__ = ["OPERATORS"]


def _concat(node: Node, *values: torch.Tensor) -> torch.Tensor:
    return torch.cat(together(*values), dim=node.integer("axis"))


def _depth_to_space(node: Node, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    side = node.integer("blocksize")
    if node.text("mode", "DCR") == "CRD":
        parts = x.reshape(n, c // side**2, side, side, h, w).permute(0, 1, 4, 2, 5, 3)
    else:
        parts = x.reshape(n, side, side, c // side**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return parts.reshape(n, c // side**2, h * side, w * side)


def _expand(node: Node, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    del node
    # Either may have the larger rank and size, which ``Tensor.expand`` does not take.
    return x.broadcast_to(torch.broadcast_shapes(x.shape, integers(shape)))


def _flatten(node: Node, x: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def _identity(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return x


def _reshape(node: Node, x: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    wanted = integers(shape)
    if not node.integer("allowzero"):
        wanted = [x.shape[at] if size == 0 else size for at, size in enumerate(wanted)]
    return x.reshape(wanted)


def _shape(node: Node, x: torch.Tensor) -> torch.Tensor:
    start, end = node.integer("start"), node.integer("end", x.ndim)
    return torch.tensor(list(x.shape)[start:end], dtype=torch.int64)


def _size(node: Node, x: torch.Tensor) -> torch.Tensor:
    del node
    return torch.tensor(x.numel(), dtype=torch.int64)


def _space_to_depth(node: Node, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    side = node.integer("blocksize")
    order = (0, 1, 3, 5, 2, 4) if node.text("mode", "DCR") == "CRD" else (0, 3, 5, 1, 2, 4)
    parts = x.reshape(n, c, h // side, side, w // side, side).permute(order)
    return parts.reshape(n, c * side**2, h // side, w // side)


def _split(
    node: Node, x: torch.Tensor, sizes: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    axis = node.integer("axis")
    wanted = integers(sizes) if sizes is not None else node.integers("split", [])
    if not wanted:
        count = node.integer("num_outputs", len(node.proto.output))
        each = -(-x.shape[axis] // count)
        wanted = [each] * (count - 1) + [x.shape[axis] - each * (count - 1)]
    return torch.split(x, wanted, dim=axis)


def _squeeze(node: Node, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    ones = [axis for axis, size in enumerate(x.shape) if size == 1]
    return x.squeeze(tuple(integers(axes, node.integers("axes", ones))))


def _tile(node: Node, x: torch.Tensor, repeats: torch.Tensor) -> torch.Tensor:
    del node
    return x.repeat(integers(repeats))


def _transpose(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.permute(node.integers("perm", reversed(range(x.ndim))))


def _unsqueeze(node: Node, x: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    wanted = integers(axes, node.integers("axes", []))
    rank = x.ndim + len(wanted)
    for axis in sorted(axis % rank for axis in wanted):
        x = x.unsqueeze(axis)
    return x


OPERATORS: dict[str, Operator] = {
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _flatten,
    "Identity": _identity,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
