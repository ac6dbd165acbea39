"""What an infer request's header means for one model, or why it means nothing.

Source: Open Inference Protocol (KServe V2), "Inference"; Triton's extensions for binary tensors,
classification and scheduling policies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hasten.errors import InvalidRequestError
from hasten.serve.http.datatypes import DATATYPES, datatype_of
from hasten.serve.http.infer_call import Asked, InferCall, Slot
from hasten.serve.http.infer_header import (
    InferHeader,
    InputTensor,
    binary_size,
    whole_parameter,
)

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel

__all__ = ["LONGEST_KEPT", "Meaning"]

#: The longest header that is kept.
LONGEST_KEPT = 4096
#: More than any body holds, and few enough for their bytes to be counted in 64 bits.
_MOST_ELEMENTS = 2**48

#: Datatypes whose bytes are not all values.
_CHECKED = frozenset({"BYTES", "BOOL"})

#: Values that have no highest one.
_NOT_RANKED = frozenset({"str", "bool"})


class Meaning:
    """Understands headers for one model."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        signature = model.signature
        self._inputs = {spec.name: at for at, spec in enumerate(signature.inputs)}
        self._outputs = {spec.name: at for at, spec in enumerate(signature.outputs)}
        self._datatypes = tuple(datatype_of(spec.dtype) for spec in signature.inputs)
        self._fixed = tuple(datatype_of(spec.dtype) != "BYTES" for spec in signature.outputs)

    def of(self, header: InferHeader, text_bytes: int, behind: int) -> InferCall:
        """Return what a header of so many bytes asks, with so many behind it.

        Raises InvalidRequestError for what this model cannot be asked.
        """
        call = InferCall()
        call.id = header.id
        shapes = self._inputs_of(header, call)
        if call.body_bytes != behind:
            raise InvalidRequestError(
                f"Expected {call.body_bytes} bytes of binary data behind the JSON header,"
                f" got {behind}"
            )
        model = self._model
        ordered = tuple(shapes[at] for at in range(len(shapes)))
        call.rows = model.rows_of(ordered)
        if not model.uniform:
            call.key = tuple(shape[1:] for shape in ordered) if model.batched else ordered
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
        inside = call.inline or call.implied
        call.keepable = not inside and not call.id and text_bytes <= LONGEST_KEPT
        return call

    def _inputs_of(self, header: InferHeader, call: InferCall) -> dict[int, tuple[int, ...]]:
        """Find out where the inputs are; return their shapes by their place."""
        shapes: dict[int, tuple[int, ...]] = {}
        slots, begin = [], 0
        for tensor in header.inputs:
            at = self._place(tensor, shapes)
            shapes[at] = tensor.shape
            size = tensor.parameters.get("binary_data_size")
            if size is None:
                if tensor.data is msgspec.UNSET:
                    raise InvalidRequestError(
                        f"Expected data or binary_data_size, got neither for input '{tensor.name}'"
                    )
                call.inline[at] = tensor
                continue
            end = begin + binary_size(tensor, size)
            slots.append(Slot(at, tensor.name, tensor.datatype, tensor.shape, begin, end))
            begin = end
        for at, array in self._model.implied(shapes).items():
            call.implied[at], shapes[at] = array, array.shape
        self._require_all(shapes)
        call.slots, call.body_bytes = tuple(slots), begin
        return shapes

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
