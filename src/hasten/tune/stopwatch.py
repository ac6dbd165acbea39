"""A stopwatch for steps that have a goal in latency: pairs of models in two worker processes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from hasten.data import Samples
from hasten.errors import RuntimeFailureError
from hasten.graph import Model
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.measure.rounds import Entrant, run_rounds
from hasten.measure.statistics import speedup
from hasten.runtimes import Execution, get_runtime
from hasten.worker.process import Worker

__all__ = ["RuntimeStopwatch"]

_SAMPLES = 4
_OPEN_LIMIT_S = 300.0


@dataclass(eq=False)
class RuntimeStopwatch:
    """Times models on one runtime, each in rounds that alternate with the first of its series.

    Samples are random: what is timed are dense kernels, which take the same time for all values.
    """

    scratch: Path
    runtime: str = "onnxruntime"
    execution: Execution = field(default_factory=lambda: Execution(threads=physical_cores()))
    seed: int = 0

    def __call__(self, series: Iterable[Sequence[Model]], *, rounds: int) -> Iterator[list[float]]:
        """Yield the milliseconds of one run of each model; see ``hasten.compress.step``.

        For the first model it is the least median of its pairings, for another this times the ratio
        within its own pairing: that of a race, the median over rounds. The fast runs alone would
        flatter small models, which wait more for other work on the machine than they compute.
        """
        order = random.Random(self.seed)  # noqa: S311 - an order of rounds, not a secret
        self.scratch.mkdir(parents=True, exist_ok=True)
        with Worker(self.scratch) as worker, Worker(self.scratch) as other:
            for models in series:
                with TemporaryDirectory(dir=self.scratch) as folder:
                    yield self._times(models, (worker, other), rounds, order, Path(folder))

    def _times(
        self,
        models: Sequence[Model],
        workers: tuple[Worker, Worker],
        rounds: int,
        order: random.Random,
        folder: Path,
    ) -> list[float]:
        self._open(workers[0], models[0], folder / "first")
        firsts: list[float] = []
        ratios: list[float] = []
        for place, model in enumerate(models[1:]):
            self._open(workers[1], model, folder / str(place))
            pair = [Entrant(worker) for worker in workers]
            run_rounds(pair, rounds, order, Deadline.after(None))
            if pair[1].failure:
                raise RuntimeFailureError(pair[1].failure)
            first, second = (entrant.measurement for entrant in pair)
            firsts.append(first.latency("latency").p50)
            ratio = speedup(second.rounds("latency"), first.rounds("latency"))
            ratios.append(ratio.median)
        return [min(firsts), *(ratio * min(firsts) for ratio in ratios)]

    def _open(self, worker: Worker, model: Model, folder: Path) -> None:
        """Compile a model in the place of the one before."""
        folder.mkdir()
        samples = folder / "samples"
        Samples.synthetic(model.signature, _SAMPLES, self.seed).save(samples)
        lowered = get_runtime(self.runtime).lower(model, folder)
        worker.open(self.runtime, lowered, self.execution, samples, _OPEN_LIMIT_S)
