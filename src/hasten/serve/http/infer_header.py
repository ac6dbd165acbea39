"""What the JSON of an infer request says, and what its absence says.

Source: Open Inference Protocol (KServe V2), "Inference Request"; Triton's "Binary Tensor Data
Extension", "Raw Binary Request".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from hasten.errors import InvalidRequestError
from hasten.serve.http.datatypes import DATATYPES, datatype_of

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel

__all__ = [
    "InferHeader",
    "InputTensor",
    "RequestedOutput",
    "binary_size",
    "has_one_meaning",
    "parse_header",
    "raw_header",
    "whole_parameter",
]

_EMPTY: dict[str, Any] = {}


class InputTensor(msgspec.Struct, frozen=True):
    """One input in the JSON header."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    parameters: dict[str, Any] = _EMPTY
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class RequestedOutput(msgspec.Struct, frozen=True):
    """One output that is asked for."""

    name: str
    parameters: dict[str, Any] = _EMPTY


class InferHeader(msgspec.Struct, frozen=True):
    """The JSON of an infer request."""

    inputs: tuple[InputTensor, ...]
    id: str = ""
    parameters: dict[str, Any] = _EMPTY
    outputs: tuple[RequestedOutput, ...] | None = None


_DECODER = msgspec.json.Decoder(InferHeader)


def parse_header(text: bytes) -> InferHeader:
    """Read the JSON; raises InvalidRequestError."""
    try:
        return _DECODER.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(
            f"Expected an infer request as JSON, got another: {error}"
        ) from error


def has_one_meaning(text: bytes, header: InferHeader) -> bool:
    """Return whether JSON surely has no key twice; ``header`` is what it was read as.

    Each key has a colon: where there are no more of those than keys were read, none was passed
    over. Where there are more, they may be in texts, or in keys that nobody knows.
    """
    keys = 1 + bool(header.id) + _parameter_keys(header.parameters)
    for tensor in header.inputs:
        keys += 3 + (tensor.data is not msgspec.UNSET) + _parameter_keys(tensor.parameters)
    if header.outputs is not None:
        keys += 1 + len(header.outputs)
        keys += sum(_parameter_keys(one.parameters) for one in header.outputs)
    return text.count(b":") == keys


def _parameter_keys(parameters: dict[str, Any]) -> int:
    return 1 + len(parameters) if parameters else 0


def raw_header(model: ServedModel, size: int) -> InferHeader:
    """Return what a body of so many bytes asks that has no JSON: it is the only input.

    Its shape is the model's own, with the free dimension that makes so many bytes; where more
    than the batch is free, it is a batch of one. BYTES are one element. The answer is binary.
    """
    specs = model.signature.inputs
    if len(specs) != 1:
        raise InvalidRequestError(
            f"Expected a model with one input for a body without JSON, got '{model.name}'"
            f" with {len(specs)}"
        )
    (spec,) = specs
    datatype = datatype_of(spec.dtype)
    shape = list(spec.shape)
    if model.batched and (shape.count(None) > 1 or datatype == "BYTES"):
        shape[0] = 1
    step = 1 if datatype == "BYTES" else DATATYPES[datatype].itemsize
    for dim in shape:
        step *= 1 if dim is None else dim
    free = shape.count(None)
    if datatype == "BYTES":
        if free or step != 1:
            raise InvalidRequestError(
                f"Expected an input of one element for a body of BYTES without JSON, got {spec}"
            )
    elif free > 1 or not step or not size or size % step or (size != step and not free):
        wanted = f"a multiple of {step} bytes" if free else f"{step} bytes"
        raise InvalidRequestError(
            f"Expected {wanted} for {spec} in a body without JSON, got {size}"
        )
    elif free:
        shape[shape.index(None)] = size // step
    dims = tuple(dim for dim in shape if dim is not None)
    tensor = InputTensor(spec.name, dims, datatype, {"binary_data_size": size})
    return InferHeader((tensor,), parameters={"binary_data_output": True})


def binary_size(tensor: InputTensor, size: object) -> int:
    """Return how many bytes an input has behind the header, if it may; raises InvalidRequestError.

    ``size`` is its parameter binary_data_size.
    """
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InvalidRequestError(
            f"Expected binary_data_size of 0 or more, got {size!r} for input '{tensor.name}'"
        )
    if tensor.datatype != "BYTES":
        wanted = DATATYPES[tensor.datatype].itemsize
        for dim in tensor.shape:  # Python's integers do not overflow
            wanted *= dim
        if size != wanted:
            raise InvalidRequestError(
                f"Expected {wanted} bytes for {tensor.datatype}{list(tensor.shape)},"
                f" got binary_data_size {size} for input '{tensor.name}'"
            )
    return size


def whole_parameter(parameters: dict[str, Any], name: str) -> int:
    """Return a parameter that counts, 0 where it is not given; raises InvalidRequestError."""
    value = parameters.get(name, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(f"Expected parameter {name} of 0 or more, got {value!r}")
    return value
