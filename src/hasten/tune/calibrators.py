"""Which calibrator suits a model: judged on the calibration samples, so validation stays unseen."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hasten.compress import StaticInt8, StepConfig
from hasten.data import Fidelity, Samples
from hasten.errors import HastenError
from hasten.graph import Model
from hasten.progress import Progress
from hasten.runtimes import Arrays, Execution, get_runtime
from hasten.tune.build import Builder
from hasten.worker.session import in_worker

__all__ = ["rank_calibrators", "with_calibrator"]

_BATCH = 8


def rank_calibrators(
    builder: Builder, chains: Sequence[tuple[StepConfig, ...]], cores: int, progress: Progress
) -> dict[str, float]:
    """Return the SQNR in dB of the int8 outputs for each calibrator, the best first.

    Calibrators change ranges and nothing else, so they do not differ in speed, and unsigned and
    signed activations hold the same values: one graph for each calibrator tells, the first in
    ``chains``, which must be one that does not saturate in ONNX Runtime here. Empty when there is
    nothing to rank or a graph cannot be run; then all of them race.
    """
    calibration = builder.context.calibration
    ranked: dict[str, float] = {}
    trials = {
        step.calibrator: chain
        for chain in reversed(chains)
        for step in chain[-1:]
        if isinstance(step, StaticInt8)
    }
    if calibration is None or len(trials) <= 1:
        return ranked
    with progress.stage("choosing ranges", len(trials) + 1) as advance:
        try:
            plain = next(iter(trials.values()))[:-1]
            reference = _outputs(builder.apply(plain), calibration, builder, cores)
            advance(1)
            for name, chain in trials.items():
                outputs = _outputs(builder.apply(chain), calibration, builder, cores)
                ranked[name] = Fidelity().evaluate(outputs, None, reference).details["sqnr_db"]
                advance(1)
        except HastenError:
            return {}
    return dict(sorted(ranked.items(), key=lambda item: -item[1]))


def _outputs(model: Model, samples: Samples, builder: Builder, cores: int) -> Arrays:
    import numpy as np

    scratch = builder.context.scratch
    lowered = get_runtime("onnxruntime").lower(model, scratch)
    parts = []
    with in_worker("onnxruntime", lowered, Execution(threads=cores), scratch) as session:
        for feed, valid in samples.batches(model.signature, _BATCH):
            outputs = session.run(feed)
            parts.append({name: np.atleast_1d(value)[:valid] for name, value in outputs.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def with_calibrator(chain: tuple[StepConfig, ...], name: str) -> tuple[StepConfig, ...]:
    """Return the chain with another calibrator in its static int8 step."""
    return tuple(
        msgspec.structs.replace(step, calibrator=name) if isinstance(step, StaticInt8) else step
        for step in chain
    )
