"""Resizing: by the nearest value or by linear interpolation, one axis after another."""

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
}
#: Resize takes a region and a shape from this opset on.
_WITH_REGION = 11


def _resize(node: Node, x: torch.Tensor, *more: torch.Tensor | None) -> torch.Tensor:
    """Interpolate along each axis whose size changes; scales decide, or the sizes wanted."""
    if node.opset < _WITH_REGION:
        more = (None, *more)
    _, scales, sizes = (*more, None, None, None)[:3]
    over = node.integers("axes", range(x.ndim))
    given = [] if scales is None else [float(each) for each in scales.reshape(-1).tolist()]
    wanted = integers(sizes)
    for at, axis in enumerate(over):
        size = x.shape[axis]
        ratio = given[at] if given else wanted[at] / size
        length = math.floor(size * ratio) if given else wanted[at]
        if length != size or ratio != 1:
            x = _along(node, x, axis % x.ndim, length, ratio)
    return x


def _along(node: Node, x: torch.Tensor, axis: int, length: int, ratio: float) -> torch.Tensor:
    size = x.shape[axis]
    places = _places(node, size, length, ratio)
    if node.text("mode", "nearest") == "nearest":
        return x.index_select(axis, _nearest(node, places, size).to(x.device))
    low = places.floor()
    share = (places - low).to(x.device, x.dtype)
    share = share.reshape([-1 if at == axis else 1 for at in range(x.ndim)])
    before = low.clamp(0, size - 1).to(torch.int64).to(x.device)
    after = (low + 1).clamp(0, size - 1).to(torch.int64).to(x.device)
    return torch.lerp(x.index_select(axis, before), x.index_select(axis, after), share)


def _places(node: Node, size: int, length: int, ratio: float) -> torch.Tensor:
    """Return where in the input each value of the output is, float64 [length]."""
    at = torch.arange(length, dtype=torch.float64)
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
    if mode not in {"nearest", "linear"}:
        return f"mode {mode}"
    if node.integer("antialias"):
        return "antialias"
    if node.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        return "it keeps the aspect ratio"
    how = node.text("coordinate_transformation_mode", "half_pixel")
    return "" if how in _PLACES else f"coordinates {how}"


OPERATORS: dict[str, Operator] = {"Resize": _resize, "Upsample": _resize}

REFUSALS: dict[str, Refusal] = {"Resize": _refuse, "Upsample": _refuse}
