"""Adaptive rounding: weights go up or down so that what a layer gives stays, not they do."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.compress.activations.layer_inputs import layer_moments
from hasten.compress.quantization.biased_layers import biased_layers
from hasten.compress.quantization.rounding import PEAKS, RoundedWeight, Weights, round_weights
from hasten.compress.step import Context
from hasten.graph import initializer_arrays

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["adapted", "round_adaptively", "rounding_cost"]

_Floats = npt.NDArray[np.float32]

#: The share of a channel's largest weight that its largest level may stand for.
_SHARES = np.linspace(0.4, 1.0, 25)
#: Added to the diagonal, of its mean: inputs that were never seen apart still differ a little.
_RIDGE = 0.01
_SWEEPS = 20
#: Columns that are settled before what they change is handed on to all others.
_BLOCK = 64


def round_adaptively(
    model: Model, context: Context, weights: Weights, *, corrected: bool
) -> dict[str, RoundedWeight]:
    """Round the weights of the model to levels that keep its layers' outputs, by name.

    ``corrected`` says that biases will be corrected for what rounding does on average, so that
    only what varies counts. Layers without moments (transposed convolutions, products of stacks)
    are rounded to nearest. Raises RefusedError where there are no calibration samples.
    """
    nearest = round_weights(model.graph, weights)
    moments = layer_moments(model, context)
    free = _with_free_mean(model.graph) if corrected else frozenset()
    values = initializer_arrays(model.graph.graph)
    found = dict(nearest)
    with context.progress.stage("rounding", len(moments)) as advance:
        for name, one in moments.items():
            moment = one.covariance if name in free else one.second
            axis = nearest[name].axis
            found[name] = adapted(values[name], moment, PEAKS[weights], axis)
            advance(1)
    return found


def _with_free_mean(graph: onnx.ModelProto) -> frozenset[str]:
    """Return the weights whose every reader has a bias, which takes up what is added on average."""
    biased = Counter(layer.node.input[1] for layer in biased_layers(graph))
    uses = Counter(name for node in graph.graph.node for name in node.input)
    return frozenset(name for name, count in biased.items() if uses[name] == count)


def adapted(weight: npt.NDArray[Any], moment: _Floats, peak: int, axis: int) -> RoundedWeight:
    """Levels within ``peak`` and scales of least error in what the layer gives.

    With ``e`` the error of the weights of one output and ``H`` the moment of its inputs, of shape
    [groups, d, d], that error is ``e H e^T``. Each output first takes the scale at which nearest
    levels cost least, then each of its weights in turn the level that is best while the others
    stay, until none moves: the error never grows, and it is the same in every run.

    Source of the objective: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training
    Quantization", ICML 2020 (arXiv 2004.10568), equation 20. The paper anneals a soft relaxation
    of up and down; coordinate descent moves the levels themselves, takes a hundredth of the time,
    and is not bound to the two nearest.
    """
    moved = np.moveaxis(weight, axis, 0)
    groups, columns = moment.shape[:2]
    rows = moved.reshape(groups, -1, columns).astype(np.float32)
    ridge = _RIDGE * np.einsum("gii->g", moment) / columns
    moment = moment + ridge[:, np.newaxis, np.newaxis] * np.eye(columns, dtype=np.float32)
    scale = _best_scale(rows, moment, peak)
    levels = _descend(rows, moment, scale, peak)
    shaped = np.moveaxis(levels.astype(np.int8).reshape(moved.shape), 0, axis)
    return RoundedWeight(np.ascontiguousarray(shaped), scale.reshape(-1), axis)


def rounding_cost(weight: npt.NDArray[Any], moment: _Floats, rounded: RoundedWeight) -> float:
    """``e H e^T`` summed over the outputs: the mean squared error of what the layer gives."""
    error = np.moveaxis(rounded.values - weight, rounded.axis, 0)
    rows = error.reshape(moment.shape[0], -1, moment.shape[1]).astype(np.float64)
    return float(((rows @ moment) * rows).sum())


def _best_scale(rows: _Floats, moment: _Floats, peak: int) -> _Floats:
    """The scale of each row at which its nearest levels cost least, of shape [groups, rows, 1]."""
    widest = np.abs(rows).max(axis=2, keepdims=True) / np.float32(peak)
    widest = np.where(widest < np.finfo(np.float32).tiny, np.float32(1), widest)
    least = np.full_like(widest, np.inf)
    best = widest
    for share in _SHARES[::-1].astype(np.float32):
        scale = widest * share
        error = scale * np.clip(np.rint(rows / scale), -peak, peak) - rows
        cost = ((error @ moment) * error).sum(axis=2, keepdims=True)
        best = np.where(cost < least, scale, best)
        least = np.minimum(cost, least)
    return np.asarray(best, np.float32)


def _descend(rows: _Floats, moment: _Floats, scale: _Floats, peak: int) -> _Floats:
    """Coordinate descent over the columns; ``slope`` is half the gradient of the cost."""
    levels = np.clip(np.rint(rows / scale), -peak, peak)
    slope = (scale * levels - rows) @ moment
    curvature = np.einsum("gii->gi", moment)
    step = scale[:, :, 0]
    for _ in range(_SWEEPS):
        moves = 0
        for start in range(0, rows.shape[2], _BLOCK):
            block = slice(start, start + _BLOCK)
            near, change = slope[:, :, block].copy(), np.zeros_like(levels[:, :, block])
            within = moment[:, block, block]
            for at in range(change.shape[2]):
                bend = curvature[:, start + at, np.newaxis] * step
                bend = np.where(bend > 0, bend, np.inf)
                old = levels[:, :, start + at]
                new = np.clip(np.rint(old - near[:, :, at] / bend), -peak, peak)
                moved = (new - old) * step
                if np.any(moved):
                    near += moved[:, :, np.newaxis] * within[:, np.newaxis, at]
                    change[:, :, at] = moved
                    levels[:, :, start + at] = new
            if np.any(change):
                moves += int(np.count_nonzero(change))
                slope += change @ moment[:, block]
        if not moves:
            break
    return np.asarray(levels, np.float32)
