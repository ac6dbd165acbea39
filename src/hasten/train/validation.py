"""How good a module is on samples that it is not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hasten.data import Metric, Samples
from hasten.graph import Signature

__all__ = ["predictions", "score"]

Answer = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]


def predictions(
    answer: Answer, samples: Samples, signature: Signature, batch: int
) -> dict[str, NDArray[Any]]:
    """Return what ``answer`` makes of all samples, in order, the rows of padding left out."""
    found: dict[str, list[NDArray[Any]]] = {}
    for feed, rows in samples.batches(signature, batch):
        for name, value in answer(feed).items():
            found.setdefault(name, []).append(value[:rows] if value.ndim else value)
    return {name: np.concatenate(parts) for name, parts in found.items()}


def score(
    module: torch.nn.Module,
    samples: Samples,
    signature: Signature,
    metric: Metric,
    *,
    batch: int,
    reference: Mapping[str, NDArray[Any]] | None = None,
) -> float:
    """Return the metric of a module in evaluation mode, where higher is better.

    Outputs that are not finite are the worst there is.
    """
    device = next(module.parameters()).device

    def answer(feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        inputs = {name: torch.tensor(value, device=device) for name, value in feed.items()}
        found = module(inputs)
        return {spec.name: found[spec.name].cpu().numpy() for spec in signature.outputs}

    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            outputs = predictions(answer, samples, signature, batch)
        if not all(np.isfinite(value).all() for value in outputs.values()):
            return -math.inf
        return metric.evaluate(outputs, samples.labels, reference).value
    finally:
        module.train(was_training)
