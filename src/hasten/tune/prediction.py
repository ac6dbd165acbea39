"""What a contestant answers for the validation samples, as it is deployed, in a worker process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.data import Samples
from hasten.data.answers import Answers, Runs, SampleAxis, read_runs, sample_axes
from hasten.errors import RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.patience import patiently
from hasten.tune.candidate import Contestant
from hasten.worker.process import Worker

__all__ = ["Predictions"]

_OPEN_LIMIT_S = 240.0
_PREDICT_LIMIT_S = 3600.0


@dataclass(eq=False)
class Predictions:
    """Runs contestants over samples, which are staged in ``folder``.

    Samples are run one by one unless a contestant is deployed with a batch: that samples do not
    change each other's answers is never assumed.
    """

    samples: Samples
    folder: Path
    scratch: Path
    deadline: Deadline

    def of(
        self, contestant: Contestant, axes: dict[str, SampleAxis], worker: Worker | None = None
    ) -> Answers:
        """Return what a contestant answers; ``axes`` are where samples stand in each output.

        It runs in a worker process of its own, or takes the place of the one before in ``worker``.
        Raises RuntimeFailureError where it fails, CutShortError at the deadline.
        """
        with self._opened(contestant, worker) as opened:
            batch = contestant.candidate.execution.batch
            return Answers.from_runs(self._runs(opened, self.folder, batch), axes)

    def of_reference(
        self, contestant: Contestant, worker: Worker | None = None
    ) -> tuple[Answers, dict[str, SampleAxis]]:
        """Return what the reference answers, and where samples stand in each of its outputs."""
        with self._opened(contestant, worker) as opened:
            runs = self._runs(opened, self.folder, contestant.candidate.execution.batch)
            axes = self._axes(opened, contestant, runs)
            return Answers.from_runs(runs, axes), axes

    @contextmanager
    def _opened(self, contestant: Contestant, worker: Worker | None) -> Iterator[Worker]:
        candidate, lowered = contestant.candidate, contestant.lowered
        if lowered is None:
            raise RuntimeFailureError(contestant.reason)
        with nullcontext(worker) if worker is not None else Worker(self.scratch) as opened:
            patiently(
                lambda limit_s: opened.open(
                    candidate.runtime, lowered, candidate.execution, self.folder, limit_s
                ),
                _OPEN_LIMIT_S,
                self.deadline,
            )
            yield opened

    def _runs(self, worker: Worker, folder: Path, batch: int) -> Runs:
        out = Path(tempfile.mkdtemp(dir=self.scratch, prefix="outputs-")) / "of"
        patiently(
            lambda limit_s: worker.predict(folder, out, batch, limit_s),
            _PREDICT_LIMIT_S,
            self.deadline,
        )
        return read_runs(out)

    def _axes(self, worker: Worker, contestant: Contestant, runs: Runs) -> dict[str, SampleAxis]:
        """Find the axes from a few more runs, of samples joined or in another order."""
        if contestant.lowered is None:
            return {}
        signature = contestant.lowered.signature

        def run(indices: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
            found = self._runs(worker, self._staged(indices), len(indices))
            return {name: raw[0] for name, raw in found.outputs.items()}

        return sample_axes(
            runs.outputs,
            run,
            samples=len(self.samples),
            fixed=self.samples.per_feed(signature),
            rows=self.samples.rows_per_sample(signature),
        )

    def _staged(self, indices: NDArray[np.int64]) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.scratch, prefix="few-"))
        self.samples.select(indices).save(folder)
        return folder
