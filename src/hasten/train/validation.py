"""How good a module is on samples that it is not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hasten.data import Metric, Samples
from hasten.data.answers import Answers, Runs, SampleAxis, sample_axes
from hasten.graph import Signature

__all__ = ["answer_of", "axes_of", "predictions", "score"]

Answer = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]

#: Samples that are run alone to see of which shapes outputs are.
_ALONE = 3


def axes_of(answer: Answer, samples: Samples, signature: Signature) -> dict[str, SampleAxis]:
    """Find where samples stand in each output, from a few runs of the first samples."""
    fixed = samples.per_feed(signature)

    def run(indices: NDArray[np.int64]) -> Mapping[str, NDArray[Any]]:
        return answer(samples.feed(signature, indices))

    alone = range(min(_ALONE, len(samples)))
    whole = np.arange(fixed or 1) % len(samples)
    runs = [run(np.array([at])) for at in alone] if whole.size == 1 else [run(whole)]
    known = {name: [one[name] for one in runs] for name in runs[0]}
    rows = samples.rows_per_sample(signature)
    return sample_axes(known, run, samples=len(samples), fixed=fixed, rows=rows)


def predictions(
    answer: Answer,
    samples: Samples,
    signature: Signature,
    batch: int,
    axes: Mapping[str, SampleAxis],
) -> Answers:
    """Return what ``answer`` makes of all samples, in order, the rows of padding left out."""
    found: dict[str, list[NDArray[Any]]] = {}
    counts = []
    for feed, count in samples.batches(signature, batch):
        counts.append(count)
        for name, value in answer(feed).items():
            found.setdefault(name, []).append(value)
    return Answers.from_runs(Runs(found, tuple(counts)), axes)


def score(
    module: torch.nn.Module,
    samples: Samples,
    signature: Signature,
    metric: Metric,
    *,
    batch: int,
    axes: Mapping[str, SampleAxis],
    reference: Answers | None = None,
) -> float:
    """Return the metric of a module in evaluation mode, where higher is better.

    ``axes`` are where samples stand in its outputs. Those that are not finite are the worst there
    is.
    """
    outputs = predictions(answer_of(module, signature), samples, signature, batch, axes)
    exact = [one for one in outputs.values() if one.dtype.kind == "f"]
    if not all(np.isfinite(part).all() for one in exact for part in one.parts):
        return -math.inf
    return metric.evaluate(outputs, samples.labels, reference).value


def answer_of(module: torch.nn.Module, signature: Signature) -> Answer:
    """Return what answers as a module does in evaluation: arrays in, the signature's outputs out.

    The module is in evaluation mode while it answers, and as it was afterwards.
    """
    device = next(module.parameters(), torch.zeros(())).device

    def answer(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        was_training = module.training
        module.eval()
        try:
            with torch.no_grad():
                inputs = {name: torch.tensor(value, device=device) for name, value in feed.items()}
                found = module(inputs)
        finally:
            module.train(was_training)
        return {spec.name: found[spec.name].cpu().numpy() for spec in signature.outputs}

    return answer
