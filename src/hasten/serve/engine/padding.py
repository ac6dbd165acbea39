"""Inputs of unlike lengths in one batch: padded to the next bucket, and outputs cut back."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Protocol

import numpy as np

from hasten.errors import HastenError, InvalidRequestError, OptionError
from hasten.graph import Signature, TensorSpec, numpy_dtype
from hasten.serve.engine.request import BatchResult, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hasten.serve.engine.settings import LengthBuckets

__all__ = ["Entry", "Padding", "require_lengths"]


class Entry(Protocol):
    """Where requests of a model go: its lane, or what stands before it."""

    def submit(self, request: Request, timeout_us: int) -> None:
        """Answer or queue; raises a RequestError where it is refused at once."""
        ...

    def cancel(self, request: Request) -> None:
        """Drop a request whose answer nobody waits for any more."""
        ...


def require_lengths(buckets: LengthBuckets, signature: Signature, model: str) -> None:
    """Raise OptionError unless the mask is an input whose axis 1 is free, and another one's is."""
    free = [spec.name for spec in signature.inputs if _has_length(spec)]
    if buckets.mask not in free or len(free) == 1:
        raise OptionError(
            expected="length_buckets of a model whose mask and another input have a free axis 1",
            got=f"mask {buckets.mask!r} for {', '.join(map(str, signature.inputs))}",
            where=f"model {model}",
        )


class Padding:
    """Pads requests on their way in, and cuts their answers. Called by the loop's thread alone.

    Requests of one bucket share a batch. Outputs whose axis 1 is free and as long as the bucket are
    cut to the request's own length.
    """

    def __init__(self, buckets: LengthBuckets, signature: Signature, entry: Entry) -> None:
        self._lengths = buckets.lengths
        self._value = buckets.pad_value
        self._entry = entry
        self._specs = signature.inputs
        self._places = [at for at, spec in enumerate(signature.inputs) if _has_length(spec)]
        self._mask = [spec.name for spec in signature.inputs].index(buckets.mask)
        self._cut = [_has_length(spec) for spec in signature.outputs]

    def implied(self, shapes: Mapping[int, tuple[int, ...]]) -> dict[int, np.ndarray]:
        """Return the mask by its place where a request has none: all of its input is real."""
        given = [shapes[at] for at in self._places if at in shapes]
        if self._mask in shapes or not given or len(given[0]) <= 1:
            return {}
        spec = self._specs[self._mask]
        rest = [1 if dim is None else dim for dim in spec.shape[2:]]
        return {self._mask: np.ones((*given[0][:2], *rest), numpy_dtype(spec.dtype))}

    def submit(self, request: Request, timeout_us: int) -> None:
        """Pad and pass on; raises InvalidRequestError for what is too long or of two lengths."""
        lengths = {request.inputs[at].shape[1] for at in self._places}
        if len(lengths) > 1:
            names = ", ".join(self._specs[at].name for at in self._places)
            raise InvalidRequestError(
                f"Expected one length of {names}, got {', '.join(map(str, sorted(lengths)))}"
            )
        (length,) = lengths
        place = bisect_left(self._lengths, length)
        if place == len(self._lengths):
            raise InvalidRequestError(
                f"Expected a length of at most {self._lengths[-1]}, got {length}"
            )
        bucket = self._lengths[place]
        if length < bucket:
            self._pad(request, length, bucket)
        self._entry.submit(request, timeout_us)

    def _pad(self, request: Request, length: int, bucket: int) -> None:
        inputs = list(request.inputs)
        for at in self._places:
            value = 0 if at == self._mask else self._value
            inputs[at] = _padded(inputs[at], bucket, value)
        request.inputs = tuple(inputs)
        request.key = tuple(array.shape[1:] for array in inputs)
        reply = request.reply

        def cut(_: Request, result: BatchResult | HastenError, start: int) -> None:
            request.reply = reply
            if isinstance(result, HastenError):
                reply(request, result, start)
            else:
                reply(request, self._cut_back(request, result, start, length, bucket), 0)

        request.reply = cut

    def _cut_back(
        self, request: Request, result: BatchResult, start: int, length: int, bucket: int
    ) -> BatchResult:
        own = [array[start : start + request.rows] for array in result.outputs]
        outputs = tuple(
            array[:, :length] if has_length and array.shape[1] == bucket else array
            for array, has_length in zip(own, self._cut, strict=True)
        )
        return BatchResult(outputs, batched=True)

    def cancel(self, request: Request) -> None:
        """Drop a request whose answer nobody waits for any more."""
        self._entry.cancel(request)


def _has_length(spec: TensorSpec) -> bool:
    return len(spec.shape) > 1 and spec.shape[1] is None


def _padded(array: np.ndarray, length: int, value: float) -> np.ndarray:
    filling: object = "" if array.dtype.hasobject else value
    padded = np.full((array.shape[0], length, *array.shape[2:]), filling, array.dtype)
    padded[:, : array.shape[1]] = array
    return padded
