"""Ways to ruin what a model answers, whatever kind of output it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import Output

__all__ = ["RUINS", "channel_axis", "ruined"]

Values = NDArray[Any]
#: Ruins the values of one output, [samples, ...], given where its classes stand.
Ruin = Callable[[Values, np.random.Generator], Values]


def channel_axis(values: Values) -> int:
    """Where classes, columns or channels stand: behind the sample of a picture, else at the end."""
    return 1 if values.ndim == 4 else -1


def _constant(values: Values, random: np.random.Generator) -> Values:
    del random
    return np.broadcast_to(values.mean(axis=0), values.shape).copy()


def _sign(values: Values, random: np.random.Generator) -> Values:
    del random
    return -values


def _permuted(values: Values, random: np.random.Generator) -> Values:
    del random
    return np.roll(values, 1, axis=channel_axis(values))


def _zeros(values: Values, random: np.random.Generator) -> Values:
    """Zero scores: what stands behind the box, or all of it."""
    del random
    made = values.copy()
    made[..., 4 if values.ndim == 3 and values.shape[-1] in {6, 8} else 0 :] = 0
    return made


def _shifted(values: Values, random: np.random.Generator) -> Values:
    """Shifted boxes, by half of their size; other outputs by one spread."""
    del random
    made = values.copy()
    if values.ndim == 3 and values.shape[-1] in {6, 8}:
        made[..., 0] += 6
        if values.shape[-1] == 6:
            made[..., 2] += 6
        return made
    return np.asarray(made + values.std(axis=0) * np.linspace(0, 2, values.shape[-1]))


def _one_channel(values: Values, random: np.random.Generator) -> Values:
    """The channel that varies most is another sample's."""
    made = np.moveaxis(values.copy(), channel_axis(values), -1)
    worst = int(np.argmax(made.reshape(-1, made.shape[-1]).std(axis=0)))
    made[..., worst] = made[random.permutation(len(made)), ..., worst]
    return np.moveaxis(made, -1, channel_axis(values))


def _one_class(values: Values, random: np.random.Generator) -> Values:
    """The class that is found most is never found."""
    del random
    made = np.moveaxis(values.copy(), channel_axis(values), -1)
    scores = made[..., 5:] if made.ndim == 3 and made.shape[-1] == 8 else made
    most = np.bincount(scores.argmax(axis=-1).reshape(-1)).argmax()
    scores[..., most] = scores.min()
    return np.moveaxis(made, -1, channel_axis(values))


def _half(values: Values, random: np.random.Generator) -> Values:
    """Every other sample has the answer of the one before."""
    del random
    made = values.copy()
    made[1::2] = values[0 : len(values) - 1 : 2]
    return made


def _clipped(values: Values, random: np.random.Generator) -> Values:
    """What is above the third quartile of a channel is cut off."""
    del random
    axes = tuple(at for at in range(values.ndim) if at != channel_axis(values) % values.ndim)
    return np.asarray(np.minimum(values, np.quantile(values, 0.75, axis=axes, keepdims=True)))


def _noise(values: Values, random: np.random.Generator) -> Values:
    """Noise 10 dB below what varies in each channel."""
    axes = tuple(at for at in range(values.ndim) if at != channel_axis(values) % values.ndim)
    spread = values.std(axis=axes, keepdims=True)
    return np.asarray(values + random.normal(size=values.shape) * spread * 10**-0.5)


def _delayed(values: Values, random: np.random.Generator) -> Values:
    """Everything one step late: along the first axis of a sample, or the answer before."""
    del random
    return np.roll(values, 1, axis=1 if values.ndim == 3 else 0)


RUINS: dict[str, Ruin] = {
    "constant": _constant,
    "sign": _sign,
    "permuted classes": _permuted,
    "zero scores": _zeros,
    "shifted boxes": _shifted,
    "one channel": _one_channel,
    "one class": _one_class,
    "second output": _constant,
    "half the samples": _half,
    "clipped": _clipped,
    "noise at 10 dB": _noise,
    "delayed by a step": _delayed,
}


def ruined(output: Output, name: str) -> Output:
    """Return an output ruined in one of the ways."""
    random, ruin = np.random.default_rng(0), RUINS[name]
    if output.values is None:
        return replace(output, parts=_ruined_parts(output.parts, ruin, name, random))
    values = ruin(np.asarray(output.values, np.float64), random).astype(np.float32)
    return replace(output, values=values, parts=values)


def _ruined_parts(parts: Any, ruin: Ruin, name: str, random: np.random.Generator) -> list[Values]:
    """Ruin samples of varying number: together where rows are, else whole samples."""
    if name in {"constant", "half the samples", "delayed by a step"}:
        order = {
            "constant": [0] * len(parts),
            "half the samples": [at - at % 2 for at in range(len(parts))],
            "delayed by a step": [at - 1 for at in range(len(parts))],
        }[name]
        return [np.asarray(parts[at]) for at in order]
    if name == "one class":
        return [np.asarray(part)[np.asarray(part)[:, 5] != _most(parts)] for part in parts]
    sizes = np.cumsum([len(part) for part in parts])[:-1]
    together = np.concatenate(parts).astype(np.float64)
    rows = (
        ruin(together, random) if name == "one channel" else ruin(together[np.newaxis], random)[0]
    )
    return [np.asarray(one, np.float32) for one in np.split(rows, sizes)]


def _most(parts: Sequence[Values] | Values) -> float:
    values, counts = np.unique(np.concatenate(parts)[:, 5], return_counts=True)
    return float(values[counts.argmax()])
