"""The outputs of a model for samples that are run one by one, by any runtime or by torch.

One by one, whatever the first axis of an output is: its samples are stacked along a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hasten.runtimes import Execution, get_runtime
from zoo.architecture import Arrays

if TYPE_CHECKING:
    from hasten import Model
    from hasten.runtimes import Hint
    from hasten.train import GraphModule

__all__ = ["answers", "module_answers", "one_by_one", "unoptimised_answers"]


def answers(
    model: Model,
    samples: Arrays,
    runtime: str,
    scratch: Path,
    *,
    hint: Hint = "default",
    delegate: str = "",
) -> Arrays:
    """Return the float outputs in a runtime, [samples, ...]; raises as runtimes do."""
    home = get_runtime(runtime)
    with _closing(
        home.open(home.lower(model, scratch, hint), Execution(hint=hint, delegate=delegate))
    ) as session:
        return one_by_one(session.run, samples)


def unoptimised_answers(model: Model, samples: Arrays) -> Arrays:
    """Return the outputs in ONNX Runtime with every optimisation of the graph switched off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return one_by_one(lambda feed: dict(zip(names, session.run(names, feed), strict=True)), samples)


def module_answers(module: GraphModule, samples: Arrays) -> Arrays:
    """Return the outputs of a module, by name."""

    def run(feed: Arrays) -> Arrays:
        found = module({name: torch.from_numpy(value) for name, value in feed.items()})
        return {name: value.numpy() for name, value in found.items()}

    with torch.no_grad():
        return one_by_one(run, samples)


def one_by_one(run: Callable[[Arrays], Any], samples: Arrays) -> Arrays:
    """Run each sample alone and stack the float outputs; other outputs are left out."""
    count = len(next(iter(samples.values())))
    each = []
    for at in range(count):
        feed = {name: np.ascontiguousarray(value[at : at + 1]) for name, value in samples.items()}
        each.append({name: np.array(value) for name, value in run(feed).items()})
    floats = [name for name, value in each[0].items() if value.dtype.kind == "f"]
    return {name: np.stack([one[name] for one in each]) for name in floats}


@contextmanager
def _closing(session: Any) -> Iterator[Any]:
    try:
        yield session
    finally:
        session.close()
