"""What the event loop may run itself: batches whose time is known to be short."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hasten.graph.run_time import program_depends_on_values, time_depends_on_values

if TYPE_CHECKING:
    from hasten.runtimes import Lowered
    from hasten.serve.engine.request import Batch

__all__ = ["Inline", "time_is_bounded"]

#: A run that took so many times the bound, and as long as this, was not as short as it had been:
#: its shapes are timed anew on an executor. Less may be what else runs on the machine.
_FAR, _FAR_NS = 20, 5_000_000
#: Shapes that are remembered.
_MOST = 4096


class Inline:
    """Shapes and batch sizes that took less than ``bound_ns`` when an executor ran them.

    ``rows`` is the largest batch that the warm-up timed, where all requests have the same shapes;
    0 where each shape is yet to be timed.
    """

    def __init__(self, bound_ns: float, rows: int) -> None:
        self._bound_ns = bound_ns
        self._rows = rows
        self._known: dict[object, int] = {}
        self.far_ns = max(_FAR * bound_ns, _FAR_NS)

    def takes(self, batch: Batch) -> bool:
        """Whether the loop may run this batch."""
        return batch.size <= self._known.get(batch.requests[0].key, self._rows)

    def learn(self, batch: Batch) -> None:
        """Take in how long an executor ran a batch."""
        key, known = batch.requests[0].key, self._known
        if batch.run_ns <= self._bound_ns and batch.size > known.get(key, self._rows):
            if len(known) >= _MOST:
                known.clear()
            known[key] = batch.size

    def distrust(self, batch: Batch) -> None:
        """Have the shapes of a batch timed anew: the loop ran it, and it took ``far_ns``."""
        self._known[batch.requests[0].key] = 0


def time_is_bounded(lowered: Lowered) -> bool:
    """Whether the time of a run is known from its shapes, so that an input cannot prolong it."""
    if lowered.format == "null":
        return True
    if lowered.format == "onnx":
        import onnx

        return not time_depends_on_values(onnx.load(lowered.path, load_external_data=False))
    if lowered.format == "tflite":
        from hasten.graph.tflite import Damaged, read_program

        try:
            program = read_program(Path(lowered.path).read_bytes())
        except Damaged:  # LiteRT reads what we do not know to read
            return False
        return not program_depends_on_values(program)
    return False
