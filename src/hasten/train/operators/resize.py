"""Resizing: nearest, linear or cubic interpolation, one axis after another."""

from __future__ import annotations

import math

import torch

from hasten.train.operators.table import Node, Operator, Refusal, integers

__all__ = ["OPERATORS", "REFUSALS"]

_PLACES = {
    "align_corners",
    "asymmetric",
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "tf_crop_and_resize",
}
_CROP = "tf_crop_and_resize"
#: Resize takes a region and a shape from this opset on.
_WITH_REGION = 11


def _resize(node: Node, x: torch.Tensor, *more: torch.Tensor | None) -> torch.Tensor:
    """Interpolate along each axis whose size changes; scales decide, or the sizes wanted."""
    if node.opset < _WITH_REGION:
        more = (None, *more)
    region, scales, sizes = (*more, None, None, None)[:3]
    over = [axis % x.ndim for axis in node.integers("axes", range(x.ndim))]
    given = [] if scales is None else [float(each) for each in scales.reshape(-1).tolist()]
    ratios, lengths = _goal(node, [x.shape[axis] for axis in over], given, integers(sizes))
    parts: list[tuple[float, float] | None] = [None] * len(over)
    if region is not None and node.text("coordinate_transformation_mode", "") == _CROP:
        starts, stops = region.double().reshape(2, -1).tolist()
        parts = list(zip(starts, stops, strict=True))
    for at, (axis, ends) in enumerate(zip(over, parts, strict=True)):
        if lengths[at] != x.shape[axis] or ratios[at] != 1 or ends not in {None, (0.0, 1.0)}:
            x = _along(node, x, axis, lengths[at], ratios[at], ends)
    return x


def _goal(
    node: Node, have: list[int], scales: list[float], sizes: list[int]
) -> tuple[list[float], list[int]]:
    """Return the ratio and the size of each axis."""
    if scales:
        return scales, [math.floor(one * scale) for one, scale in zip(have, scales, strict=True)]
    ratios = [want / one for one, want in zip(have, sizes, strict=True)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy == "stretch":
        return ratios, sizes
    ratio = min(ratios) if policy == "not_larger" else max(ratios)
    return [ratio] * len(have), [math.floor(ratio * one + 0.5) for one in have]


def _along(
    node: Node,
    x: torch.Tensor,
    axis: int,
    length: int,
    ratio: float,
    ends: tuple[float, float] | None,
) -> torch.Tensor:
    size = x.shape[axis]
    places = _places(node, size, length, ratio, ends)
    mode = node.text("mode", "nearest")
    if mode == "nearest":
        y = x.index_select(axis, _nearest(node, places, size).to(x.device))
    elif mode == "linear" and not node.integer("antialias"):
        y = _linear(x, axis, places)
    else:
        y = _filtered(node, x, axis, places, min(ratio, 1.0) if node.integer("antialias") else 1.0)
    if ends is None:
        return y
    outside = ((places < 0) | (places > size - 1)).to(x.device)
    shape = [-1 if at == axis else 1 for at in range(x.ndim)]
    return y.masked_fill(outside.reshape(shape), node.number("extrapolation_value", 0.0))


def _linear(x: torch.Tensor, axis: int, places: torch.Tensor) -> torch.Tensor:
    size, low = x.shape[axis], places.floor()
    share = (places - low).to(x.device, x.dtype)
    share = share.reshape([-1 if at == axis else 1 for at in range(x.ndim)])
    before = low.clamp(0, size - 1).to(torch.int64).to(x.device)
    after = (low + 1).clamp(0, size - 1).to(torch.int64).to(x.device)
    return torch.lerp(x.index_select(axis, before), x.index_select(axis, after), share)


def _filtered(
    node: Node, x: torch.Tensor, axis: int, places: torch.Tensor, stretch: float
) -> torch.Tensor:
    """Weigh the neighbours of each place; where it is made smaller, ``stretch`` more of them."""
    size, reach = x.shape[axis], 2 if node.text("mode", "nearest") == "cubic" else 1
    low = places.floor()
    first = math.floor(-reach / stretch) + 1
    taps = torch.arange(first, 2 - first, dtype=torch.float64)
    away = (taps - (places - low)[:, None]) * stretch
    weights = _cubic(away, node.number("cubic_coeff_a", -0.75)) if reach > 1 else _hat(away)
    at = low[:, None] + taps
    if node.integer("exclude_outside"):
        weights = weights.where((at >= 0) & (at < size), 0.0)
    weights = weights / weights.sum(dim=1, keepdim=True)
    matrix = torch.zeros(len(places), size, dtype=torch.float64)
    matrix.scatter_add_(1, at.clamp(0, size - 1).to(torch.int64), weights)
    y = x.movedim(axis, -1) @ matrix.T.to(x.device, x.dtype)
    return y.movedim(-1, axis)


def _hat(away: torch.Tensor) -> torch.Tensor:
    return (1 - away.abs()).clamp(min=0)


def _cubic(away: torch.Tensor, a: float) -> torch.Tensor:
    """Weigh by distance: Keys, "Cubic Convolution Interpolation", IEEE ASSP 29 (1981), eq. 4."""
    x = away.abs()
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
    return near.where(x <= 1, far).where(x < 2, 0.0)  # noqa: PLR2004 - it reaches so far


def _places(
    node: Node, size: int, length: int, ratio: float, ends: tuple[float, float] | None
) -> torch.Tensor:
    """Return where in the input each value of the output is, float64 [length]."""
    at = torch.arange(length, dtype=torch.float64)
    if ends is not None:
        start, end = (one * (size - 1) for one in ends)
        middle = 0.5 * (start + end)
        return start + at * (end - start) / (length - 1) if length > 1 else at + middle
    asymmetric = node.opset < _WITH_REGION
    how = node.text("coordinate_transformation_mode", "asymmetric" if asymmetric else "half_pixel")
    if how == "asymmetric":
        return at / ratio
    if how == "align_corners":
        whole = ratio * size
        return at * ((size - 1) / (whole - 1)) if whole > 1 else at * 0
    if how == "pytorch_half_pixel" and length <= 1:
        return at * 0
    if how == "half_pixel_symmetric":
        adjusted = length / (ratio * size)
        return size / 2 * (1 - adjusted) + (at + 0.5) / ratio - 0.5
    return (at + 0.5) / ratio - 0.5


def _nearest(node: Node, places: torch.Tensor, size: int) -> torch.Tensor:
    how = node.text("nearest_mode", "round_prefer_floor")
    if node.opset < _WITH_REGION:
        how = "floor"
    chosen = {
        "floor": places.floor(),
        "ceil": places.ceil(),
        "round_prefer_floor": (places - 0.5).ceil(),
        "round_prefer_ceil": (places + 0.5).floor(),
    }[how]
    return chosen.clamp(0, size - 1).to(torch.int64)


def _refuse(node: Node) -> str:
    mode = node.text("mode", "nearest")
    if mode not in {"nearest", "linear", "cubic"}:
        return f"mode {mode}"
    how = node.text("coordinate_transformation_mode", "half_pixel")
    return "" if how in _PLACES else f"coordinates {how}"


OPERATORS: dict[str, Operator] = {"Resize": _resize, "Upsample": _resize}

REFUSALS: dict[str, Refusal] = {"Resize": _refuse, "Upsample": _refuse}
