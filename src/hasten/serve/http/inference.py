"""Infer requests of one model: from the bytes of the body to the bytes of the answer."""

from __future__ import annotations

from time import perf_counter_ns
from typing import TYPE_CHECKING

from hasten.errors import HastenError
from hasten.serve.engine.request import BatchResult, Request
from hasten.serve.http.infer_request import HeaderReader
from hasten.serve.http.infer_response import ResponseWriter

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel
    from hasten.serve.http.exchange import Exchange
    from hasten.serve.http.infer_request import InferCall

__all__ = ["Inference"]


class Inference:
    """Translates for one version of one model."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._reader = HeaderReader(model)
        self._writer = ResponseWriter(model)

    def __call__(self, exchange: Exchange) -> None:
        """Begin to answer; raises a RequestError where that cannot be."""
        arrival_ns = perf_counter_ns()
        call, inputs = self._reader.read(exchange.body, exchange.header_bytes)
        request = _Pending(inputs, call.rows, call.key, self._reply, arrival_ns)
        request.priority = call.priority
        request.exchange = exchange
        request.call = call
        request.origin = exchange.pipeline.origin
        exchange.waits = (self.model, request)
        self.model.submit(request, call.timeout_us)

    def _reply(self, request: Request, result: BatchResult | HastenError, start: int) -> None:
        exchange: Exchange = request.exchange  # type: ignore[attr-defined]
        exchange.waits = None
        if isinstance(result, HastenError):
            exchange.fail(result)
            return
        try:
            parts = self._writer.write(request.call, result, start)  # type: ignore[attr-defined]
        except HastenError as error:
            exchange.fail(error)
        else:
            exchange.pipeline.answer(exchange, parts)


class _Pending(Request):
    """A request with where to answer it."""

    __slots__ = ("call", "exchange")

    exchange: Exchange
    call: InferCall
