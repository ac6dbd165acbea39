"""TensorFlow Lite models: taken as they are, with a signature read from the flatbuffer."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hasten.errors import ModelError
from hasten.graph.model import Model
from hasten.graph.onnx_file import read_model_bytes
from hasten.graph.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read_tflite"]

#: Offset to the root table, then the file identifier (schema.fbs: file_identifier "TFL3").
_HEADER = struct.Struct("<I4s")
_IDENTIFIER = b"TFL3"

#: More dimensions than any runtime takes: a larger count is a damaged file.
_MAX_RANK = 64

#: What a flatbuffer reader raises on bytes that point outside the buffer or make no sense.
_READ_ERRORS = (
    struct.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)

#: TensorType of schema.fbs by number, as names of NumPy or ml_dtypes.
_DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "str",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    11: "complex128",
    12: "uint64",
    15: "uint32",
    16: "uint16",
    17: "int4",
    18: "bfloat16",
}


def read_tflite(path: str | Path) -> Model:
    """Read a .tflite file: its bytes as they are, and the signature of its main subgraph.

    Names are those of the tensors, as in ``Interpreter.get_input_details()``; a dimension of -1 in
    ``shape_signature`` is free. Raises ModelError when the file is missing, damaged or not TFLite.
    """
    path = Path(path)
    where = str(path)
    data = read_model_bytes(path, kind="a .tflite file")
    if len(data) < _HEADER.size or _HEADER.unpack_from(data)[1] != _IDENTIFIER:
        raise ModelError(
            expected="a .tflite file",
            got=f"{len(data)} bytes without its identifier TFL3",
            where=where,
        )
    if _HEADER.unpack_from(data)[0] >= len(data):
        raise _damaged("a root table outside of the file", where)
    try:
        signature = _signature(data, where)
    except _READ_ERRORS as error:
        raise _damaged(
            f"a flatbuffer that cannot be followed ({type(error).__name__})", where
        ) from None
    return Model(name=path.stem, content=data, signature=signature)


def _signature(data: bytes, where: str) -> Signature:
    from ai_edge_litert import schema_py_generated as schema

    flat = schema.Model.GetRootAs(data, 0)
    if not 0 < flat.SubgraphsLength() <= len(data):
        raise _damaged("no subgraph", where)
    graph = flat.Subgraphs(0)
    inputs = _specs(graph, graph.InputsLength(), graph.Inputs, "input", where)
    outputs = _specs(graph, graph.OutputsLength(), graph.Outputs, "output", where)
    if not outputs:
        raise _damaged("no outputs", where)
    return Signature(inputs, outputs)


def _specs(
    graph: Any, count: int, index_at: Callable[[int], int], role: str, where: str
) -> tuple[TensorSpec, ...]:
    tensors = graph.TensorsLength()
    if count > tensors:
        raise _damaged(f"{count} {role}s and {tensors} tensors", where)
    specs = []
    for position in range(count):
        index = index_at(position)
        if not 0 <= index < tensors:
            raise _damaged(f"{role} {position} at tensor {index} of {tensors}", where)
        specs.append(_spec(graph.Tensors(index), f"{role} {position}", where))
    names = [spec.name for spec in specs]
    if len(set(names)) != len(names):
        raise ModelError(
            expected=f"a name of its own for each {role}", got=", ".join(names), where=where
        )
    return tuple(specs)


def _spec(tensor: Any, role: str, where: str) -> TensorSpec:
    if tensor.ShapeLength() > _MAX_RANK or tensor.ShapeSignatureLength() > _MAX_RANK:
        raise _damaged(f"{role} with {tensor.ShapeLength()} dimensions", where)
    shape = [tensor.Shape(axis) for axis in range(tensor.ShapeLength())]
    declared = [tensor.ShapeSignature(axis) for axis in range(tensor.ShapeSignatureLength())]
    if declared and len(declared) != len(shape):
        raise _damaged(f"{role} with shape {shape} and shape signature {declared}", where)
    dims = declared or shape
    if any(dim < -1 for dim in dims):
        raise _damaged(f"{role} with shape {dims}", where)
    dtype = _DTYPES.get(tensor.Type())
    if dtype is None:
        raise ModelError(
            expected=f"a dtype that arrays have for {role}",
            got=f"TensorType {tensor.Type()}",
            where=where,
        )
    name = (tensor.Name() or b"").decode("utf-8")
    if not name:
        raise ModelError(expected=f"a name for {role}", got="none", where=where)
    return TensorSpec(name, dtype, tuple(None if dim == -1 else dim for dim in dims))


def _damaged(what: str, where: str) -> ModelError:
    return ModelError(expected="a .tflite file", got=what, where=where)
