"""One request on its way through the engine, and what comes back."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hasten.errors import HastenError
    from hasten.serve.engine.suspects import Origin

__all__ = ["NEVER_NS", "Batch", "BatchResult", "Reply", "Request"]

#: A deadline that never comes: above any clock.
NEVER_NS = 2**63 - 1


class Request:
    """Inputs in the order of the model's signature, with the bounds within which to answer.

    ``rows`` is the size of the first axis where the model batches, else 1. Only requests of equal
    ``key`` share a batch. ``reply`` is called once, by the event loop's thread. One that is
    ``cancelled`` is dropped before it is run and never answered.
    """

    __slots__ = (
        "arrival_ns",
        "cancelled",
        "deadline_ns",
        "inputs",
        "key",
        "order",
        "origin",
        "priority",
        "queue_limit_ns",
        "queued",
        "reply",
        "rows",
        "sequence",
    )

    def __init__(
        self, inputs: tuple[np.ndarray, ...], rows: int, key: object, reply: Reply, arrival_ns: int
    ) -> None:
        self.inputs = inputs
        self.rows = rows
        self.key = key
        self.reply = reply
        self.arrival_ns = arrival_ns
        #: The connection that it came by, where front ends have such.
        self.origin: Origin | None = None
        #: When the answer is worth nothing any more, and when waiting in the queue ends.
        self.deadline_ns = NEVER_NS
        self.queue_limit_ns = NEVER_NS
        self.priority = 0
        self.cancelled = False
        self.queued = False
        #: Set by the scheduler: the number of its arrival, and its place in the queue.
        self.sequence = 0
        self.order: tuple[int, int, int] = (0, 0, 0)

    def precedes(self, other: Request) -> bool:
        """Whether this one is to be run before the other."""
        return (self.order, self.sequence) < (other.order, other.sequence)


class BatchResult:
    """Outputs of one batch, in the order of the model's signature, shared by its requests.

    Row ``start`` to ``start + rows`` of each output is a request's own where the model batches;
    where it does not, the whole of it.
    """

    __slots__ = ("_bytes", "outputs", "shapes")

    def __init__(self, outputs: tuple[np.ndarray, ...], *, batched: bool) -> None:
        self.outputs = outputs
        #: Shapes of the outputs; without the first axis where that is the batch.
        self.shapes = tuple(array.shape[batched:] for array in outputs)
        self._bytes: list[bytes | None] = [None] * len(outputs)

    def raw(self, at: int) -> bytes:
        """Return the bytes of one output, made once for all requests of the batch."""
        made = self._bytes[at]
        if made is None:
            made = self._bytes[at] = self.outputs[at].tobytes()
        return made


#: Told how a request ended: the result with the row where its own begin, or an error.
Reply = Callable[["Request", "BatchResult | HastenError", int], None]


class Batch:
    """Requests that run together, and when.

    One that failed may be run again in ``parts``, which have results and errors of their own.
    """

    __slots__ = (
        "begin_ns",
        "end_ns",
        "error",
        "input_ns",
        "output_ns",
        "parts",
        "requests",
        "reruns",
        "result",
        "rows",
        "run_ns",
        "size",
    )

    def __init__(self, requests: list[Request], rows: int) -> None:
        self.requests = requests
        self.rows = rows
        #: Rows that were run, padding included.
        self.size = rows
        self.begin_ns = 0
        self.end_ns = 0
        self.input_ns = 0
        self.run_ns = 0
        self.output_ns = 0
        self.result: BatchResult | None = None
        self.error: HastenError | None = None
        self.parts: list[Batch] = []
        self.reruns = 0
