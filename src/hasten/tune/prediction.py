"""What a contestant answers for the validation samples, as it is deployed, in a worker process."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hasten.data import Samples
from hasten.data.answers import (
    Answers,
    Runs,
    SampleAxis,
    axis_by_growth,
    axis_by_rotation,
    read_runs,
)
from hasten.errors import HastenError, RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.patience import patiently
from hasten.tune.candidate import Contestant
from hasten.worker.process import Worker

__all__ = ["Predictions"]

_OPEN_LIMIT_S = 240.0
_PREDICT_LIMIT_S = 3600.0
#: Samples that are joined into one run to see which axis of an output grows with them.
_JOINED = (2, 3)


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
        rows, fixed = (
            self.samples.rows_per_sample(signature),
            self.samples.per_feed(signature),
        )
        if fixed is not None and fixed > 1:
            return self._axes_of_fixed_batch(worker, runs, fixed, rows)
        joined = self._joined(worker) if fixed is None else {}
        return {
            name: axis_by_growth(
                [value.shape for value in raw],
                {count: outputs[name] for count, outputs in joined.items()},
                rows,
            )
            for name, raw in runs.outputs.items()
        }

    def _joined(self, worker: Worker) -> dict[int, dict[str, tuple[int, ...]]]:
        """Return the shapes of outputs by how many samples were joined; none where it cannot be."""
        shapes = {}
        for count in _JOINED:
            if count > len(self.samples):
                break
            try:
                runs = self._runs(worker, self._staged(np.arange(count)), count)
            except HastenError:  # a batch that is free by its signature alone
                return {}
            shapes[count] = {name: raw[0].shape for name, raw in runs.outputs.items()}
        return shapes

    def _axes_of_fixed_batch(
        self, worker: Worker, runs: Runs, samples: int, rows: int
    ) -> dict[str, SampleAxis]:
        """Find them by rotating the samples of one run."""
        if samples > len(self.samples):
            return {name: SampleAxis(None) for name in runs.outputs}
        rotated = self._runs(worker, self._staged(np.roll(np.arange(samples), 1)), samples)
        return {
            name: axis_by_rotation(raw[0], rotated.outputs[name][0], samples, rows)
            for name, raw in runs.outputs.items()
        }

    def _staged(self, indices: NDArray[np.int64]) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self.scratch, prefix="few-"))
        self.samples.select(indices).save(folder)
        return folder
