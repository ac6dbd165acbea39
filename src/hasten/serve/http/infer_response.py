"""The answer to an infer request: JSON, and tensors in it or behind it.

Source: Open Inference Protocol (KServe V2), "Inference Response"; Triton's extensions for binary
tensors and classification.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hasten.serve.http.datatypes import (
    bytes_from_array,
    datatype_of,
    json_from_array,
    write_elements,
    write_json,
)
from hasten.serve.http.steps import drained

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel
    from hasten.serve.engine.request import BatchResult
    from hasten.serve.http.infer_call import Asked, InferCall

__all__ = ["ResponseWriter"]

#: Rows above this are sent as views, and not joined to the head.
_LARGE_BYTES = 16_384
#: Values above this are put into words in steps.
_LONG_VALUES = 8192

_JSON_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_JSON_END = b"}]}"
_SIZE = b',"parameters":{"binary_data_size":%d}}'

Parts = list[bytes | memoryview]


class ResponseWriter:
    """Writes the answers of one model as HTTP/1.1 messages."""

    def __init__(self, model: ServedModel) -> None:
        self._batched = model.batched
        self._datatypes = [datatype_of(spec.dtype) for spec in model.signature.outputs]
        self._labels = model.source.labels
        name = msgspec.json.encode(model.name)
        self._model = b'{"model_name":' + name + b',"model_version":"%d"' % model.version

    def write(self, call: InferCall, result: BatchResult, start: int) -> Parts:
        """Return the message, head and body, in parts to send one after another.

        Raises InvalidRequestError where a value cannot be told the way it is asked for.
        """
        if not (call.plain or call.one_json):
            return self._written_anew(call, result, start)
        if call.head_shapes is not result.shapes:
            if call.head_shapes != result.shapes or not call.head:
                head = self._binary_head if call.plain else self._json_head
                call.head = head(call, result)
            call.head_shapes = result.shapes
        if call.one_json:
            return [self._with_json(call, result, start)]
        if len(call.asked) == 1:
            data = self._rows_of(result, call.asked[0].at, start, call.rows)
            return [call.head, data] if len(data) > _LARGE_BYTES else [b"".join((call.head, data))]
        parts: Parts = [call.head]
        parts += [self._rows_of(result, one.at, start, call.rows) for one in call.asked]
        return parts if max(map(len, parts)) > _LARGE_BYTES else [b"".join(parts)]

    def _rows_of(self, result: BatchResult, at: int, start: int, rows: int) -> bytes | memoryview:
        """Return the bytes of a request's rows; a view where they are many."""
        array = result.outputs[at]
        if not self._batched or array.shape[0] == rows:
            return bytes_from_array(array)
        size = array.nbytes // array.shape[0]
        if size * rows > _LARGE_BYTES:
            return bytes_from_array(array[start : start + rows])
        return result.raw(at)[start * size : (start + rows) * size]

    def _binary_head(self, call: InferCall, result: BatchResult) -> bytes:
        """Return all that precedes the tensors: it is the same for every request of this form."""
        outputs, total = [], 0
        for one in call.asked:
            array = result.outputs[one.at]
            shape = (call.rows, *array.shape[1:]) if self._batched else array.shape
            size = int(np.prod(shape, dtype=np.int64)) * array.itemsize
            total += size
            outputs.append(self._described(one, shape) + _SIZE % size)
        text = self._opening(call) + b"[" + b",".join(outputs) + b"]}"
        return _binary_headers(len(text), total) + text

    def _json_head(self, call: InferCall, result: BatchResult) -> bytes:
        """Return what precedes the values of the one output, but for the lines of HTTP."""
        one = call.asked[0]
        shape = result.outputs[one.at].shape
        if self._batched:
            shape = (call.rows, *shape[1:])
        return self._opening(call) + b"[" + self._described(one, shape) + b',"data":'

    def _with_json(self, call: InferCall, result: BatchResult, start: int) -> bytes:
        one = call.asked[0]
        array = result.outputs[one.at]
        if self._batched:
            array = array[start : start + call.rows]
        data = json_from_array(array, one.name)
        size = len(call.head) + len(data) + len(_JSON_END)
        return b"".join((_JSON_HEADERS % size, call.head, data, _JSON_END))

    def is_long(self, call: InferCall, result: BatchResult) -> bool:
        """Return whether an answer has so many values in words that it is to be told in steps."""
        values = 0
        for one in call.asked:
            array = result.outputs[one.at]
            if not one.binary or array.dtype.kind == "O":
                values += array.size // len(array) * call.rows if self._batched else array.size
        return values > _LONG_VALUES

    def _written_anew(self, call: InferCall, result: BatchResult, start: int) -> Parts:
        """Write an answer that has JSON values, classes or elements of any length."""
        return drained(self.write_long(call, result, start))

    def write_long(
        self, call: InferCall, result: BatchResult, start: int
    ) -> Generator[None, None, Parts]:
        """Do what write does, in steps."""
        outputs, behind = [], []
        for one in call.asked:
            array = result.outputs[one.at]
            if self._batched:
                array = array[start : start + call.rows]
            if one.classes:
                labels = self._labels.get(one.name, ())
                array = _top_classes(array, one.classes, labels, batched=self._batched)
            described = self._described(one, array.shape, "BYTES" if one.classes else "")
            if not one.binary:
                text = yield from write_json(array, one.name)
                described += b',"data":' + text + b"}"
            else:
                texts = array.dtype.kind == "O"
                data = (yield from write_elements(array)) if texts else bytes_from_array(array)
                behind.append(data)
                described += _SIZE % len(data)
            outputs.append(described)
        text = self._opening(call) + b"[" + b",".join(outputs) + b"]}"
        if not behind:
            return [_JSON_HEADERS % len(text) + text]
        return [_binary_headers(len(text), sum(map(len, behind))) + text, *behind]

    def _opening(self, call: InferCall) -> bytes:
        identity = b',"id":' + msgspec.json.encode(call.id) if call.id else b""
        return self._model + identity + b',"outputs":'

    def _described(self, one: Asked, shape: tuple[int, ...], datatype: str = "") -> bytes:
        return b'{"name":%s,"datatype":"%s","shape":[%s]' % (
            msgspec.json.encode(one.name),
            (datatype or self._datatypes[one.at]).encode(),
            ",".join(map(str, shape)).encode(),
        )


def _binary_headers(text_bytes: int, tensor_bytes: int) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
        % (text_bytes, text_bytes + tensor_bytes)
    )


def _top_classes(
    array: np.ndarray, count: int, labels: tuple[str, ...], *, batched: bool
) -> np.ndarray:
    """Return the highest values in falling order as ``value:index``, with ``:label`` if named."""
    rows = array.reshape(len(array), -1) if batched else array.reshape(1, -1)
    count = min(count, rows.shape[1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    texts = np.empty(order.shape, np.object_)
    whole = array.dtype.kind in "iu"
    for at, best in enumerate(order):
        texts[at] = [
            (f"{rows[at, index]}" if whole else f"{float(rows[at, index]):f}")
            + f":{index}"
            + (f":{labels[index]}" if index < len(labels) else "")
            for index in best
        ]
    return texts if batched else texts[0]
