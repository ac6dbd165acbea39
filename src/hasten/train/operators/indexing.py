"""Values picked and placed by indices, which are integers and have no gradient."""

from __future__ import annotations

import torch
from torch.nn import functional as f

from hasten.train.operators.table import Node, Operator, together

__all__ = ["OPERATORS"]

_REDUCTIONS: dict[str, str] = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}


def _gather_nd(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    """Take slices of x by tuples of indices, beneath leading axes that both have in common."""
    shared = node.integer("batch_dims")
    at = _whole(x, indices)
    rows = []
    for axis, size in enumerate(x.shape[:shared]):
        along = [1] * (at.ndim - 1)
        along[axis] = size
        rows.append(torch.arange(size, device=x.device).reshape(along))
    found: torch.Tensor = x[(*rows, *at.unbind(-1))]
    return found


def _scatter_nd(
    node: Node, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor
) -> torch.Tensor:
    """Put slices in place of those at tuples of indices, or combine them with these."""
    how = node.text("reduction", "none")
    x, updates = together(x, updates)
    at = _whole(x, indices)
    depth = at.shape[-1]
    sizes = x.shape[:depth]
    flat = torch.zeros(at.shape[:-1], dtype=torch.int64, device=x.device)
    for size, one in zip(sizes, at.unbind(-1), strict=True):
        flat = flat * size + torch.where(one < 0, one + size, one)
    rows = x.reshape(-1, *x.shape[depth:])
    new = updates.reshape(-1, *x.shape[depth:]).to(x.dtype)
    where = flat.reshape(-1, *[1] * (rows.ndim - 1)).expand_as(new)
    return _scattered(rows, 0, where, new, how).reshape(x.shape)


def _scatter_elements(
    node: Node, x: torch.Tensor, indices: torch.Tensor, updates: torch.Tensor
) -> torch.Tensor:
    axis = node.integer("axis") % x.ndim
    x, updates = together(x, updates)
    at = _whole(x, indices)
    at = torch.where(at < 0, at + x.shape[axis], at)
    return _scattered(x, axis, at, updates, node.text("reduction", "none"))


def _scattered(
    x: torch.Tensor, axis: int, at: torch.Tensor, updates: torch.Tensor, how: str
) -> torch.Tensor:
    if how == "none":
        return x.scatter(axis, at, updates)
    return x.scatter_reduce(axis, at, updates, _REDUCTIONS[how], include_self=True)


def _whole(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    return indices.to(x.device, torch.int64)


def _non_zero(node: Node, x: torch.Tensor) -> torch.Tensor:
    """Return the places of values, [axes, count]: on the CPU, as integers that shapes follow."""
    del node
    return torch.nonzero(x).T.cpu()


def _top_k(node: Node, x: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the largest or smallest values along an axis and their places; of equals the first."""
    axis, count = node.integer("axis", -1) % x.ndim, int(k.item())
    order = torch.argsort(x, dim=axis, descending=bool(node.integer("largest", 1)), stable=True)
    at = order.narrow(axis, 0, count)
    return torch.gather(x, axis, at), at


def _one_hot(
    node: Node, indices: torch.Tensor, depth: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """Return the second of ``values`` where an index is, the first elsewhere and out of bounds."""
    size = int(depth.reshape(-1)[0].item())
    at = indices.to(torch.int64)
    inside = (at >= -size) & (at < size)
    hot = f.one_hot(at.remainder(size), size).bool() & inside[..., None]
    axis = node.integer("axis", -1)
    hot = hot.movedim(-1, axis if axis >= 0 else axis + hot.ndim)
    off, on = values.to(indices.device).unbind(0)
    return torch.where(hot, on, off)


def _cumulative_sum(node: Node, x: torch.Tensor, axis: torch.Tensor) -> torch.Tensor:
    along = int(axis.item()) % x.ndim
    if node.integer("reverse"):
        x = x.flip(along)
    total = x.cumsum(along, dtype=x.dtype)
    if node.integer("exclusive"):
        total = total - x
    return total.flip(along) if node.integer("reverse") else total


def _reverse_sequence(node: Node, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Turn the first steps of each sequence around; what is behind its length stays."""
    time, batch = node.integer("time_axis"), node.integer("batch_axis", 1)
    steps = torch.arange(x.shape[time], device=x.device)
    ends = lengths.to(x.device)[:, None]
    at = torch.where(steps < ends, ends - 1 - steps, steps)  # [batch, time]
    at = at if batch < time else at.T
    shape = [x.shape[axis] if axis in {time, batch} else 1 for axis in range(x.ndim)]
    return torch.gather(x, time, at.reshape(shape).expand_as(x))


def _compress(node: Node, x: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    at = torch.nonzero(chosen).reshape(-1).to(x.device)
    if "axis" not in node.attributes:
        return x.reshape(-1).index_select(0, at)
    return x.index_select(node.integer("axis") % x.ndim, at)


def _eye_like(node: Node, x: torch.Tensor) -> torch.Tensor:
    from hasten.train.operators.selection import torch_dtypes

    dtype = torch_dtypes().get(node.integer("dtype"), x.dtype)
    rows, columns = x.shape
    diagonal = torch.arange(columns) - torch.arange(rows)[:, None] == node.integer("k")
    return diagonal.to(x.device, dtype)


OPERATORS: dict[str, Operator] = {
    "Compress": _compress,
    "CumSum": _cumulative_sum,
    "EyeLike": _eye_like,
    "GatherND": _gather_nd,
    "NonZero": _non_zero,
    "OneHot": _one_hot,
    "ReverseSequence": _reverse_sequence,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "TopK": _top_k,
}
