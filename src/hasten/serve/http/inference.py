"""Infer requests of one model: from the bytes of the body to the bytes of the answer."""

from __future__ import annotations

from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING

from hasten.errors import HastenError
from hasten.serve.engine.request import BatchResult, Request
from hasten.serve.http.infer_request import LONG_BYTES, HeaderReader, Read
from hasten.serve.http.infer_response import ResponseWriter
from hasten.serve.http.response_size import ResponseSize

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel
    from hasten.serve.http.exchange import Exchange
    from hasten.serve.http.infer_call import InferCall

__all__ = ["Inference"]


class Inference:
    """Translates for one version of one model."""

    def __init__(self, model: ServedModel) -> None:
        self.model = model
        self._reader = HeaderReader(model)
        self._writer = ResponseWriter(model)
        self._size = ResponseSize(model)

    def __call__(self, exchange: Exchange) -> None:
        """Begin to answer; raises a RequestError where that cannot be."""
        arrival_ns = perf_counter_ns()
        body, header_bytes = exchange.body, exchange.header_bytes
        if len(body) > LONG_BYTES and self._reader.is_long(body, header_bytes):
            exchange.pipeline.slices.start(exchange, self._read_long(exchange, arrival_ns))
            return
        self._submit(exchange, self._reader.read(body, header_bytes), arrival_ns)

    def _submit(self, exchange: Exchange, read: Read, arrival_ns: int) -> None:
        call, inputs = read
        if self._size.row_bytes:
            exchange.pipeline.expect_answer(exchange, self._size.row_bytes * call.rows)
        request = _Pending(inputs, call.rows, call.key, self._reply, arrival_ns)
        request.priority = call.priority
        request.exchange = exchange
        request.call = call
        request.origin = exchange.pipeline.origin
        exchange.waits = (self.model, request)
        self.model.submit(request, call.timeout_us)

    async def _read_long(self, exchange: Exchange, arrival_ns: int) -> None:
        pipeline = exchange.pipeline
        count = partial(pipeline.expect_more, exchange)
        steps = self._reader.read_long(exchange.body, exchange.header_bytes, count)
        read = await pipeline.slices.result(exchange, steps)
        try:
            self._submit(exchange, read, arrival_ns)
        except HastenError:
            exchange.waits = None
            raise

    def _reply(self, request: Request, result: BatchResult | HastenError, start: int) -> None:
        exchange: Exchange = request.exchange  # type: ignore[attr-defined]
        exchange.waits = None
        if isinstance(result, HastenError):
            exchange.fail(result)
            return
        call: InferCall = request.call  # type: ignore[attr-defined]
        if not call.plain and self._writer.is_long(call, result):
            exchange.pipeline.slices.start(
                exchange, self._write_long(exchange, call, result, start)
            )
            return
        try:
            parts = self._writer.write(call, result, start)
        except HastenError as error:
            exchange.fail(error)
        else:
            if len(parts) > 1 or len(parts[0]) > self._size.seen:
                self._size.see(parts, request.rows)
            exchange.pipeline.answer(exchange, parts)

    async def _write_long(
        self, exchange: Exchange, call: InferCall, result: BatchResult, start: int
    ) -> None:
        steps = self._writer.write_long(call, result, start)
        parts = await exchange.pipeline.slices.result(exchange, steps)
        self._size.see(parts, call.rows)
        exchange.pipeline.answer(exchange, parts)


class _Pending(Request):
    """A request with where to answer it."""

    __slots__ = ("call", "exchange")

    exchange: Exchange
    call: InferCall
