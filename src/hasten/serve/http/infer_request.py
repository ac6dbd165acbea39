"""The body of an infer request: its JSON header, and the tensors in it or behind it.

A client sends the same header again and again while only the bytes behind it change. So what was
understood of a header is kept with the model, and the next request with the same bytes costs one
look-up. A body that is all JSON is cut at the array of its one input: what is before and behind it
is as constant, and only the array is decoded.

Source: Open Inference Protocol (KServe V2), "Inference"; Triton's extensions for binary tensors,
classification and scheduling policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from hasten.errors import InvalidRequestError
from hasten.serve.http.datatypes import (
    DATATYPES,
    array_from_bytes,
    array_from_json,
    datatype_of,
    element,
)
from hasten.serve.http.infer_header import (
    InferHeader,
    InputTensor,
    binary_size,
    parse_header,
    raw_header,
    whole_parameter,
)

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel

__all__ = ["Asked", "HeaderReader", "InferCall", "Slot"]

#: Headers that are kept for a model, and the longest that is.
_KEPT = 512
_LONGEST_KEPT = 4096
#: More than any body holds, and few enough for their bytes to be counted in 64 bits.
_MOST_ELEMENTS = 2**48

#: Datatypes whose bytes are not all values.
_CHECKED = frozenset({"BYTES", "BOOL"})

_DATA = b'"data":'

#: Values that have no highest one.
_NOT_RANKED = frozenset({"str", "bool"})


class Asked(msgspec.Struct, frozen=True):
    """An output to answer with: its place in the signature, and how it is wanted."""

    at: int
    name: str
    binary: bool
    classes: int = 0


class Slot(msgspec.Struct, frozen=True):
    """Where the bytes of an input are behind the header."""

    at: int
    name: str
    datatype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class _Template(NamedTuple):
    """What was understood of a JSON body, for others that differ in the array alone."""

    call: InferCall
    behind: bytes
    datatype: str
    shape: tuple[int, ...]
    name: str


class InferCall:
    """What was understood of one header. ``head`` is the start of the last answer, to be reused."""

    __slots__ = (
        "asked",
        "body_bytes",
        "head",
        "head_shapes",
        "id",
        "inline",
        "keepable",
        "key",
        "one_json",
        "plain",
        "priority",
        "rows",
        "slots",
        "timeout_us",
        "view",
    )

    def __init__(self) -> None:
        self.id = ""
        self.rows = 1
        self.key: object = ()
        self.priority = 0
        self.timeout_us = 0
        self.slots: tuple[Slot, ...] = ()
        self.asked: tuple[Asked, ...] = ()
        self.body_bytes = 0
        #: Arrays that were in the JSON itself, by their place in the signature.
        self.inline: dict[int, np.ndarray] = {}
        self.keepable = False
        #: Whether the answer is tensors of a fixed size behind a head that may be kept.
        self.plain = False
        #: Whether it is one tensor in JSON.
        self.one_json = False
        #: Type, number of values and shape of the only input, where its bytes are its values.
        self.view: tuple[np.dtype[Any], int, tuple[int, ...]] | None = None
        self.head = b""
        self.head_shapes: tuple[tuple[int, ...], ...] = ()


class HeaderReader:
    """Reads infer requests for one model."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._kept: dict[bytes, InferCall] = {}
        self._templates: dict[bytes, _Template] = {}
        signature = model.signature
        self._inputs = {spec.name: at for at, spec in enumerate(signature.inputs)}
        self._outputs = {spec.name: at for at, spec in enumerate(signature.outputs)}
        self._datatypes = tuple(datatype_of(spec.dtype) for spec in signature.inputs)
        self._fixed = tuple(datatype_of(spec.dtype) != "BYTES" for spec in signature.outputs)

    def read(
        self, body: bytes | memoryview, header_bytes: int | None
    ) -> tuple[InferCall, tuple[np.ndarray, ...]]:
        """Return what is asked and the inputs in the model's order; raises InvalidRequestError.

        ``header_bytes`` is the length of the JSON at the start of the body; None when all is JSON.
        """
        if header_bytes is None:
            return self._read_json(bytes(body))
        if not header_bytes and self._datatypes == ("BYTES",):
            body = element(body)
        if not 0 <= header_bytes <= len(body):
            raise InvalidRequestError(
                f"Expected Inference-Header-Content-Length within the body of {len(body)} bytes,"
                f" got {header_bytes}"
            )
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

    def _read_json(self, body: bytes) -> tuple[InferCall, tuple[np.ndarray, ...]]:
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
        if len(self._inputs) == 1 and not call.id and begin <= _LONGEST_KEPT:
            self._keep_template(body, begin, header.inputs[0], call)
        return call, arrays

    def _keep_template(self, body: bytes, begin: int, tensor: InputTensor, call: InferCall) -> None:
        """Remember a body by what precedes its array, if that is where it was looked for."""
        data = bytes(tensor.data) if isinstance(tensor.data, msgspec.Raw) else b""
        behind = body[begin + len(data) :]
        if not data or not body.startswith(data, begin) or len(behind) > _LONGEST_KEPT:
            return
        call.inline = {}
        if len(self._templates) >= _KEPT:
            self._templates.clear()
        self._templates[body[:begin]] = _Template(
            call, behind, tensor.datatype, tensor.shape, tensor.name
        )

    @staticmethod
    def _arrays(call: InferCall, body: bytes | memoryview, offset: int) -> tuple[np.ndarray, ...]:
        if not call.inline and len(call.slots) == 1:
            slot = call.slots[0]
            view = memoryview(body)[offset + slot.begin : offset + slot.end]
            return (array_from_bytes(view, slot.datatype, slot.shape, slot.name),)
        arrays = dict(call.inline)
        whole = memoryview(body)
        for slot in call.slots:
            view = whole[offset + slot.begin : offset + slot.end]
            arrays[slot.at] = array_from_bytes(view, slot.datatype, slot.shape, slot.name)
        return tuple(arrays[at] for at in range(len(arrays)))

    def _understand(self, text: bytes, behind: int) -> tuple[InferCall, InferHeader]:
        header = parse_header(text) if text else raw_header(self._model, behind)
        call = InferCall()
        call.id = header.id
        shapes: dict[int, tuple[int, ...]] = {}
        slots, begin = [], 0
        for tensor in header.inputs:
            at = self._place(tensor, shapes)
            shapes[at] = tensor.shape
            size = tensor.parameters.get("binary_data_size")
            if size is None:
                call.inline[at] = self._inline(tensor)
                continue
            end = begin + binary_size(tensor, size)
            slots.append(Slot(at, tensor.name, tensor.datatype, tensor.shape, begin, end))
            begin = end
        for at, array in self._model.implied(shapes).items():
            call.inline[at], shapes[at] = array, array.shape
        self._require_all(shapes)
        if begin != behind:
            raise InvalidRequestError(
                f"Expected {begin} bytes of binary data behind the JSON header, got {behind}"
            )
        model = self._model
        ordered = tuple(shapes[at] for at in range(len(shapes)))
        call.rows = model.rows_of(ordered)
        if not model.uniform:
            call.key = tuple(shape[1:] for shape in ordered) if model.batched else ordered
        call.slots, call.body_bytes = tuple(slots), behind
        if len(call.slots) == len(self._inputs) == 1 and self._datatypes[0] not in _CHECKED:
            dtype = DATATYPES[self._datatypes[0]]
            call.view = (dtype, behind // dtype.itemsize, ordered[0])
        self._read_parameters(header, call)
        call.asked = self._asked(header)
        call.plain = all(
            one.binary and not one.classes and self._fixed[one.at] for one in call.asked
        )
        only = call.asked[0] if len(call.asked) == 1 else None
        call.one_json = only is not None and not (only.binary or only.classes)
        call.keepable = not call.inline and not call.id and len(text) <= _LONGEST_KEPT
        return call, header

    def _place(self, tensor: InputTensor, seen: dict[int, tuple[int, ...]]) -> int:
        """Return the place of an input in the signature, once it is known to fit."""
        at = self._inputs.get(tensor.name)
        if at is None:
            raise InvalidRequestError(
                f"Expected inputs {', '.join(map(repr, self._inputs))}, got {tensor.name!r}"
                f" for model '{self._model.name}'"
            )
        if at in seen:
            raise InvalidRequestError(f"Expected each input once, got '{tensor.name}' twice")
        if tensor.datatype != self._datatypes[at]:
            raise InvalidRequestError(
                f"Expected {self._datatypes[at]}, got {tensor.datatype} for input '{tensor.name}'"
            )
        elements = 1
        for dim in tensor.shape:
            elements *= dim or 1
            if not 0 <= elements <= _MOST_ELEMENTS:
                raise InvalidRequestError(
                    f"Expected dimensions of 0 or more, and at most {_MOST_ELEMENTS} elements,"
                    f" got {list(tensor.shape)} for input '{tensor.name}'"
                )
        return at

    def _inline(self, tensor: InputTensor) -> np.ndarray:
        if tensor.data is msgspec.UNSET:
            raise InvalidRequestError(
                f"Expected data or binary_data_size, got neither for input '{tensor.name}'"
            )
        return array_from_json(tensor.data, tensor.datatype, tensor.shape, tensor.name)

    def _require_all(self, shapes: dict[int, tuple[int, ...]]) -> None:
        missing = [name for name, at in self._inputs.items() if at not in shapes]
        if missing:
            raise InvalidRequestError(
                f"Expected {len(self._inputs)} inputs, got {len(shapes)}"
                f" for model '{self._model.name}': {', '.join(missing)} is missing"
            )

    def _read_parameters(self, header: InferHeader, call: InferCall) -> None:
        parameters = header.parameters
        if not parameters:
            call.priority = self._model.priority_of(0)
            return
        call.priority = self._model.priority_of(whole_parameter(parameters, "priority"))
        call.timeout_us = whole_parameter(parameters, "timeout")
        if parameters.get("sequence_id"):
            raise InvalidRequestError(
                f"Expected no sequence_id: model '{self._model.name}' keeps no state"
            )

    def _asked(self, header: InferHeader) -> tuple[Asked, ...]:
        binary = bool(header.parameters.get("binary_data_output", False))
        if not header.outputs:
            return tuple(Asked(at, name, binary) for name, at in self._outputs.items())
        asked = []
        for output in header.outputs:
            at = self._outputs.get(output.name)
            if at is None:
                raise InvalidRequestError(
                    f"Expected outputs {', '.join(map(repr, self._outputs))},"
                    f" got {output.name!r} for model '{self._model.name}'"
                )
            parameters = output.parameters
            classes = whole_parameter(parameters, "classification")
            dtype = self._model.signature.outputs[at].dtype
            if classes and dtype in _NOT_RANKED:
                raise InvalidRequestError(
                    f"Expected classification of numbers, got output '{output.name}' of {dtype}"
                )
            is_binary = bool(parameters.get("binary_data", binary))
            asked.append(Asked(at, output.name, is_binary, classes))
        return tuple(asked)
