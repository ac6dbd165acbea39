"""Trainable: the graph becomes a module that computes the same, learns, and is written back."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

import hasten
from zoo.answers import answers, module_answers, one_by_one
from zoo.architecture import Arrays
from zoo.distance import relative_error
from zoo.row import Finding
from zoo.subject import SEED, Subject
from zoo.training import train_some

__all__ = ["measure"]

_STEPS, _RATE, _BATCH = 8, 2e-4, 8
#: Beyond this share of the largest value, two float computations are not the same.
_SAME = 1e-3
_FEW = 4
#: Values that are trained, over those that PyTorch trains: some are read by nothing, and none is a
#: buffer.
_LEAST, _MOST = 0.9, 1.001


def measure(subject: Subject) -> Iterator[Finding]:
    """Make the module, train it, and run what it gives back on ONNX Runtime."""
    from hasten.train import GraphModule

    model = subject.load(keep_batch_norms=True)
    module = GraphModule(model.graph)
    few = {name: value[:_FEW] for name, value in subject.held_out.items()}
    imported = relative_error(module_answers(module, few), _original(subject, few))
    batch = 1 if subject.fixed else _BATCH
    moved = train_some(module, subject.training, steps=_STEPS, rate=_RATE, batch=batch, seed=SEED)
    written = hasten.load(module.to_graph())
    deployed = answers(written, few, "onnxruntime", subject.scratch)
    back = relative_error(deployed, module_answers(module, few))
    trained = sum(each.numel() for each in module.parameters()) / max(1, subject.parameters)
    reasons = [
        *([] if _LEAST <= trained <= _MOST else [f"trains {trained:.1%} of what PyTorch does"]),
        *([] if imported < _SAME else [f"the module computes something else: {imported:.2g}"]),
        *([] if moved.after < moved.before else [f"loss {moved.before:.4g} to {moved.after:.4g}"]),
        *([] if back < _SAME else [f"what is written back computes something else: {back:.2g}"]),
    ]
    yield Finding(
        "trainable",
        "missed" if reasons else "met",
        {
            "loss before": moved.before,
            "loss after": moved.after,
            "imported error": imported,
            "written error": back,
            "trained share": trained,
        },
        "; ".join(reasons),
    )


def _original(subject: Subject, samples: Arrays) -> Arrays:
    """Return what the PyTorch module itself gives, under the names of the graph's outputs."""
    names = [spec.name for spec in subject.load(keep_batch_norms=True).signature.outputs]

    def run(feed: Arrays) -> Arrays:
        found = subject.module(**{name: torch.from_numpy(each) for name, each in feed.items()})
        leaves = torch.utils._pytree.tree_leaves(found)
        values = [each.numpy() for each in leaves if isinstance(each, torch.Tensor)]
        return dict(zip(names, map(np.asarray, values), strict=True))

    with torch.no_grad():
        return one_by_one(run, samples)
