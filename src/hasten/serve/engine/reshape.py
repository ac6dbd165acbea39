"""Tensors that clients know in another shape than the model has: ``reshape`` of config.pbtxt.

Source: "Reshape" in Triton's "Model Configuration". Free dimensions of the one correspond to those
of the other in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.errors import HastenError
from hasten.graph import Signature, TensorSpec
from hasten.serve.engine.request import BatchResult, Request

if TYPE_CHECKING:
    import numpy as np

    from hasten.serve.engine.padding import Entry

__all__ = ["Dims", "Reshape", "resized"]

#: A shape, with None for each dimension that is free.
Dims = tuple[int | None, ...]


def resized(shape: tuple[int, ...], known: Dims, wanted: Dims) -> tuple[int, ...]:
    """Return ``wanted`` with its free dimensions as ``shape`` has them in those of ``known``.

    >>> resized((8, 5, 6), (None, None, 6), (None, 2, None, 3))
    (8, 2, 5, 3)
    """
    free = [have for have, dim in zip(shape, known, strict=True) if dim is None]
    return tuple(free.pop(0) if dim is None else dim for dim in wanted)


class Reshape:
    """Gives requests the model's shapes on their way in, and answers those of ``offered``.

    No bytes are moved. Called by the loop's thread alone.
    """

    def __init__(self, offered: Signature, own: Signature, entry: Entry, *, batched: bool) -> None:
        self._inputs = tuple(zip(offered.inputs, own.inputs, strict=True))
        self._outputs = tuple(zip(own.outputs, offered.outputs, strict=True))
        self._entry = entry
        self._batched = batched
        #: The last result and what became of it: the requests of a batch come one after another.
        self._last: tuple[BatchResult, BatchResult] | None = None

    def submit(self, request: Request, timeout_us: int) -> None:
        """Pass on in the model's shapes; raises what the next does."""
        request.inputs = _as(request.inputs, self._inputs)
        reply = request.reply

        def restored(_: Request, result: BatchResult | HastenError, start: int) -> None:
            request.reply = reply
            if isinstance(result, BatchResult):
                result = self._restored(result)
            reply(request, result, start)

        request.reply = restored
        self._entry.submit(request, timeout_us)

    def _restored(self, result: BatchResult) -> BatchResult:
        if self._last is None or self._last[0] is not result:
            outputs = _as(result.outputs, self._outputs)
            self._last = result, BatchResult(outputs, batched=self._batched)
        return self._last[1]

    def cancel(self, request: Request) -> None:
        """Drop a request whose answer nobody waits for any more."""
        self._entry.cancel(request)


def _as(
    arrays: tuple[np.ndarray, ...], pairs: tuple[tuple[TensorSpec, TensorSpec], ...]
) -> tuple[np.ndarray, ...]:
    """Return each array, of the first spec's shape, in the second's."""
    return tuple(
        array
        if known.shape == wanted.shape
        else array.reshape(resized(array.shape, known.shape, wanted.shape))
        for array, (known, wanted) in zip(arrays, pairs, strict=True)
    )
