"""Which calibrator suits a model: judged on the calibration samples, so validation stays unseen."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from hasten.compress import StaticInt8, StepConfig
from hasten.compress.static_int8 import Calibrator
from hasten.data import Samples
from hasten.data.fidelity import least_sqnr_db, score_outputs
from hasten.data.meaning import find_meanings
from hasten.errors import HastenError
from hasten.measure.clock import Deadline
from hasten.progress import Advance, Progress
from hasten.runtimes import Execution
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.prediction import Predictions
from hasten.worker.process import Worker

__all__ = ["rank_calibrators", "with_calibrator"]


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
    trials = {
        step.calibrator: chain
        for chain in reversed(chains)
        for step in chain[-1:]
        if isinstance(step, StaticInt8)
    }
    if calibration is None or len(trials) <= 1:
        return {}
    with progress.stage("choosing ranges", len(trials) + 1) as advance:
        try:
            ranked = dict(_heard(trials, calibration, builder, cores, advance))
        except HastenError:
            return {}
    return dict(sorted(ranked.items(), key=lambda item: -item[1]))


def _heard(
    trials: Mapping[Calibrator, tuple[StepConfig, ...]],
    calibration: Samples,
    builder: Builder,
    cores: int,
    advance: Advance,
) -> Iterator[tuple[str, float]]:
    """Yield the SQNR of each calibrator's graph, all of them run one after another in a worker."""
    scratch = builder.context.scratch
    staged = Path(tempfile.mkdtemp(dir=scratch, prefix="calibration-"))
    calibration.save(staged)
    predictions = Predictions(calibration, staged, scratch, Deadline.after(None))

    def contestant(chain: tuple[StepConfig, ...]) -> Contestant:
        return builder.contestant(Candidate(chain, "onnxruntime", Execution(threads=cores)))

    with Worker(scratch) as worker:
        plain = next(iter(trials.values()))[:-1]
        reference, axes = predictions.of_reference(contestant(plain), worker)
        meanings = find_meanings(reference)
        advance(1)
        for name, chain in trials.items():
            answers = predictions.of(contestant(chain), axes, worker)
            yield name, least_sqnr_db(score_outputs(answers, reference, meanings))
            advance(1)


def with_calibrator(chain: tuple[StepConfig, ...], name: str) -> tuple[StepConfig, ...]:
    """Return the chain with another calibrator in its static int8 step."""
    return tuple(
        msgspec.structs.replace(step, calibrator=name) if isinstance(step, StaticInt8) else step
        for step in chain
    )
