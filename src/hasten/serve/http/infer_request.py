"""The body of an infer request: its JSON header, and the tensors in it or behind it.

A client sends the same header again and again while only the bytes behind it change. So what was
understood of a header is kept with the model, and the next request with the same bytes costs one
look-up. A body that is all JSON is cut at the array of its one input: what is before and behind it
is as constant, and only the array is decoded. It is kept only where the array was found to be the
value of ``inputs[0].data`` and no key stands twice: then another array in its place changes
nothing else (docs/decisions/0029).

Source: Open Inference Protocol (KServe V2), "Inference"; Triton's extensions for binary tensors,
classification and scheduling policies.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from hasten.errors import InvalidRequestError
from hasten.serve.http.body import searchable
from hasten.serve.http.datatypes import (
    DATATYPES,
    array_from_bytes,
    datatype_of,
    element,
    read_elements,
)
from hasten.serve.http.infer_call import InferCall
from hasten.serve.http.infer_header import (
    InferHeader,
    InputTensor,
    has_one_meaning,
    parse_header,
    raw_header,
)
from hasten.serve.http.infer_meaning import LONGEST_KEPT, Meaning
from hasten.serve.http.json_array import array_from_json, read_array
from hasten.serve.http.json_cut import Cut, Text, cut
from hasten.serve.http.steps import drained

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel

__all__ = ["LONG_BYTES", "HeaderReader", "Read"]

#: JSON that is longer is to be read in steps.
LONG_BYTES = 32_768
#: Headers that are kept for a model.
_KEPT = 512
_DATA = b'"data":'
#: What a text weighs as an object, beside its bytes.
_TEXT_BYTES = 64

#: What is asked, and the inputs in the model's order.
Read = tuple[InferCall, tuple[np.ndarray, ...]]


class _Template(NamedTuple):
    """What was understood of a JSON body, for others that differ in the array alone."""

    call: InferCall
    behind: bytes
    datatype: str
    shape: tuple[int, ...]
    name: str


class HeaderReader:
    """Reads infer requests for one model."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._meaning = Meaning(model)
        self._kept: dict[bytes, InferCall] = {}
        self._templates: dict[bytes, _Template] = {}
        inputs = model.signature.inputs
        #: Whether elements have to be looked at one by one.
        self._texts = any(datatype_of(spec.dtype) == "BYTES" for spec in inputs)
        self._one_input = len(inputs) == 1

    def is_long(self, body: bytes | memoryview, header_bytes: int | None) -> bool:
        """Return whether a request is to be read in steps."""
        if header_bytes is None or (header_bytes and self._texts):
            return len(body) > LONG_BYTES
        return header_bytes > LONG_BYTES

    def read(self, body: bytes | memoryview, header_bytes: int | None) -> Read:
        """Return what is asked and the inputs in the model's order; raises InvalidRequestError.

        ``header_bytes`` is the length of the JSON at the start of the body; None when all is JSON.
        """
        if header_bytes is None:
            return self._read_json(bytes(body))
        if not header_bytes and self._texts and self._one_input:
            body = element(body)
        if not 0 <= header_bytes <= len(body):
            raise _not_within(header_bytes, body)
        header = bytes(body[:header_bytes])
        kept = self._kept.get(header)
        behind = len(body) - header_bytes
        if kept is not None and kept.body_bytes == behind:
            if kept.view is not None:
                dtype, count, shape = kept.view
                return kept, (np.frombuffer(body, dtype, count, header_bytes).reshape(shape),)
            return kept, self._arrays(kept, body, header_bytes)
        call, _ = self._understand(header, behind)
        if call.keepable:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[header] = call
        return call, self._arrays(call, body, header_bytes)

    def read_long(
        self,
        body: bytes | memoryview,
        header_bytes: int | None,
        count: Callable[[int], None],
    ) -> Generator[None, None, Read]:
        """Do what read does in steps, and keep nothing; ``count`` is told what arrays will hold."""
        if header_bytes is not None and header_bytes > len(body):
            raise _not_within(header_bytes, body)
        text: Text = searchable(body if header_bytes is None else body[:header_bytes])
        found = yield from cut(text)
        header = parse_header(found.frame)
        offset = len(text)
        call = self._meaning.of(header, offset, len(body) - offset)
        arrays = dict(call.implied)
        for at, tensor in call.inline.items():
            begin, end = _span(found, tensor.data)
            count(_bytes_of(tensor, end - begin))
            arrays[at] = yield from read_array(
                text, begin, end, datatype=tensor.datatype, shape=tensor.shape, name=tensor.name
            )
        whole = memoryview(body)[offset:]
        for slot in call.slots:
            view = whole[slot.begin : slot.end]
            if slot.datatype == "BYTES":
                count(_TEXT_BYTES * min(math.prod(slot.shape), len(view)))
                arrays[slot.at] = yield from read_elements(bytes(view), slot.shape, slot.name)
            else:
                arrays[slot.at] = array_from_bytes(view, slot.datatype, slot.shape, slot.name)
        return call, tuple(arrays[at] for at in range(len(arrays)))

    def _read_json(self, body: bytes) -> Read:
        begin = body.find(b"[", body.find(_DATA) + len(_DATA))
        template = self._templates.get(body[:begin])
        if template is not None and body.endswith(template.behind):
            data = memoryview(body)[begin : len(body) - len(template.behind)]
            try:
                array = array_from_json(data, *template[2:])
            except InvalidRequestError:
                pass  # it differs in more than the array, or the array is wrong: see which below
            else:
                return template.call, (array,)
        call, header = self._understand(body, 0)
        arrays = self._arrays(call, body, 0)
        if self._one_input and call.inline and not call.id and begin <= LONGEST_KEPT:
            self._keep_template(body, begin, header, call)
        return call, arrays

    def _keep_template(self, body: bytes, begin: int, header: InferHeader, call: InferCall) -> None:
        """Remember a body by what is around its array, if that is where it was looked for."""
        spans = drained(cut(body)).spans
        behind = body[spans[0][1] :] if spans else b""
        if len(spans) != 1 or spans[0][0] != begin or len(behind) > LONGEST_KEPT:
            return
        call.inline = {}
        if len(self._templates) >= _KEPT:
            self._templates.clear()
        (tensor,) = header.inputs
        self._templates[body[:begin]] = _Template(
            call, behind, tensor.datatype, tensor.shape, tensor.name
        )

    @staticmethod
    def _arrays(call: InferCall, body: bytes | memoryview, offset: int) -> tuple[np.ndarray, ...]:
        whole = memoryview(body)
        arrays = dict(call.implied)
        for at, tensor in call.inline.items():
            if isinstance(tensor.data, msgspec.Raw):
                data = memoryview(tensor.data)
                arrays[at] = array_from_json(data, tensor.datatype, tensor.shape, tensor.name)
        for slot in call.slots:
            view = whole[offset + slot.begin : offset + slot.end]
            arrays[slot.at] = array_from_bytes(view, slot.datatype, slot.shape, slot.name)
        return tuple(arrays[at] for at in range(len(arrays)))

    def _understand(self, text: bytes, behind: int) -> tuple[InferCall, InferHeader]:
        header = parse_header(text) if text else raw_header(self._model, behind)
        if text and not has_one_meaning(text, header):
            drained(cut(text))  # it finds what stands twice
        return self._meaning.of(header, len(text), behind), header


def _bytes_of(tensor: InputTensor, text_bytes: int) -> int:
    """Return what the values of an array weigh; they are no more than its text has bytes."""
    texts = tensor.datatype == "BYTES"
    each = _TEXT_BYTES if texts else DATATYPES[tensor.datatype].itemsize
    return each * min(math.prod(tensor.shape), text_bytes)


def _span(found: Cut, data: msgspec.Raw | msgspec.UnsetType) -> tuple[int, int]:
    """Return where an array is that was cut out."""
    place = b"" if isinstance(data, msgspec.UnsetType) else bytes(data)
    if not place.startswith(b"["):
        raise InvalidRequestError(f"Expected an array as data, got {place[:40]!r}")
    return found.spans[int(place[1:-1])]


def _not_within(header_bytes: int, body: bytes | memoryview) -> InvalidRequestError:
    return InvalidRequestError(
        f"Expected Inference-Header-Content-Length within the body of {len(body)} bytes,"
        f" got {header_bytes}"
    )
