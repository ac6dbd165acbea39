"""A program as the bytes of a .tflite file (schema version 3).

Source: schema.fbs of LiteRT, in the Python form that ai-edge-litert ships.
"""

from __future__ import annotations

import hashlib
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hasten.runtimes.litert.lowering.program import Operator, Program, Tensor
from hasten.runtimes.litert.lowering.versions import version_of

__all__ = ["emit_file", "operator_codes"]

_SCHEMA_VERSION = 3
_IDENTIFIER = b"TFL3"
#: schema.fbs: ``data:[ubyte] (force_align: 16)``; kernels read the weights where they lie.
_ALIGNMENT = 16
#: Room beside the weights, so that the builder need not grow and copy.
_SLACK_BYTES = 1 << 20
#: ``deprecated_builtin_code`` is a signed byte; larger codes leave this in it.
_PLACEHOLDER = 127

_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.float64): schema.TensorType.FLOAT64,
    np.dtype(np.int8): schema.TensorType.INT8,
    np.dtype(np.int16): schema.TensorType.INT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int64): schema.TensorType.INT64,
    np.dtype(np.uint8): schema.TensorType.UINT8,
    np.dtype(np.uint16): schema.TensorType.UINT16,
    np.dtype(np.uint32): schema.TensorType.UINT32,
    np.dtype(np.uint64): schema.TensorType.UINT64,
    np.dtype(np.bool_): schema.TensorType.BOOL,
}

#: Options tables whose names are not the operator's own in camel case.
_OPTIONS = {
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "CONV_2D": "Conv2DOptions",
    "CONV_3D": "Conv3DOptions",
    "CONV_3D_TRANSPOSE": "Conv3DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "REDUCE_MAX": "ReducerOptions",
    "REDUCE_MIN": "ReducerOptions",
    "REDUCE_PROD": "ReducerOptions",
    "REDUCE_ANY": "ReducerOptions",
    "REDUCE_ALL": "ReducerOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "TOPK_V2": "TopKV2Options",
    "PADV2": "PadV2Options",
    "SELECT_V2": "SelectV2Options",
    "GATHER_ND": "GatherNdOptions",
    "SCATTER_ND": "ScatterNdOptions",
    "REVERSE_V2": "ReverseV2Options",
    "LOCAL_RESPONSE_NORMALIZATION": "LocalResponseNormalizationOptions",
}


def emit_file(program: Program) -> bytes:
    """Return the file; constants with the same bytes are stored once."""
    tensors = program.tensors()
    index = {id(tensor): at for at, tensor in enumerate(tensors)}
    buffers, buffer_of = _buffers(tensors)
    codes = operator_codes(program)
    builder = flatbuffers.Builder(sum(len(one) for one in buffers) + _SLACK_BYTES)
    buffer_offsets = [_buffer(builder, data) for data in buffers]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [_tensor(tensor, buffer_of[at]) for at, tensor in enumerate(tensors)]
    graph.inputs = [index[id(tensor)] for tensor in program.inputs]
    graph.outputs = [index[id(tensor)] for tensor in program.outputs]
    graph.operators = [_operator(one, codes, index) for one in program.operators]
    parts = {
        "OperatorCodes": [_code(kind, version).Pack(builder) for kind, version in codes],
        "Subgraphs": [graph.Pack(builder)],
        "Buffers": buffer_offsets,
        "SignatureDefs": [_signature(program, index).Pack(builder)],
    }
    vectors = {name: _vector(builder, offsets) for name, offsets in parts.items()}
    description = builder.CreateString("Hasten")
    schema.ModelStart(builder)
    schema.ModelAddVersion(builder, _SCHEMA_VERSION)
    schema.ModelAddDescription(builder, description)
    for name, vector in vectors.items():
        getattr(schema, f"ModelAdd{name}")(builder, vector)
    builder.Finish(schema.ModelEnd(builder), file_identifier=_IDENTIFIER)
    return bytes(builder.Output())


def operator_codes(program: Program) -> list[tuple[str, int]]:
    """Each kind of operator with its version, once, in order of first use."""
    return list(dict.fromkeys((one.kind, version_of(one)) for one in program.operators))


def _buffers(tensors: list[Tensor]) -> tuple[list[memoryview], list[int]]:
    """The distinct bytes of all constants, after the empty buffer that tensors without use."""
    buffers = [memoryview(b"")]
    known: dict[bytes, int] = {}
    indices = []
    for tensor in tensors:
        if tensor.data is None:
            indices.append(0)
            continue
        flat = np.ascontiguousarray(tensor.data).reshape(-1)
        data = memoryview(flat.view(np.uint8).data)
        digest = hashlib.blake2b(data, digest_size=16).digest()
        if digest not in known:
            known[digest] = len(buffers)
            buffers.append(data)
        indices.append(known[digest])
    return buffers, indices


def _buffer(builder: flatbuffers.Builder, data: memoryview) -> int:
    vector = None
    if len(data):
        builder.StartVector(1, len(data), _ALIGNMENT)
        head = builder.Head() - len(data)
        builder.head = head
        builder.Bytes[head : head + len(data)] = data
        vector = builder.EndVector()
    schema.BufferStart(builder)
    if vector is not None:
        schema.BufferAddData(builder, vector)
    return int(schema.BufferEnd(builder))


def _vector(builder: flatbuffers.Builder, offsets: list[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _code(kind: str, version: int) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode = getattr(schema.BuiltinOperator, kind)
    made.deprecatedBuiltinCode = min(made.builtinCode, _PLACEHOLDER)
    made.version = version
    return made


def _tensor(tensor: Tensor, buffer: int) -> Any:
    made = schema.TensorT()
    made.name = tensor.name
    made.shape = np.array(tensor.shape, np.int32)
    made.shapeSignature = (
        np.array(tensor.signature, np.int32) if tensor.signature is not None else None
    )
    made.type = _TYPES[tensor.dtype]
    made.buffer = buffer
    made.hasRank = True
    if tensor.quantization is not None:
        parameters = schema.QuantizationParametersT()
        parameters.scale = tensor.quantization.scale.astype(np.float32)
        parameters.zeroPoint = tensor.quantization.zero_point.astype(np.int64)
        parameters.quantizedDimension = tensor.quantization.axis
        made.quantization = parameters
    return made


def _operator(operator: Operator, codes: list[tuple[str, int]], index: dict[int, int]) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex = codes.index((operator.kind, version_of(operator)))
    made.inputs = [-1 if one is None else index[id(one)] for one in operator.inputs]
    made.outputs = [index[id(one)] for one in operator.outputs]
    name = _options_table(operator.kind)
    if name is not None:
        options = getattr(schema, f"{name}T")()
        for field, value in operator.options.items():
            if not hasattr(options, field):
                raise AttributeError(f"{name} has no field {field}")
            setattr(options, field, value)
        made.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        made.builtinOptions = options
    return made


def _options_table(kind: str) -> str | None:
    """Name of the table that an operator keeps its options in; None where it has none."""
    camel = "".join(word.capitalize() for word in kind.split("_"))
    name = _OPTIONS.get(kind, f"{camel}Options")
    return name if hasattr(schema.BuiltinOptions, name) else None


def _signature(program: Program, index: dict[int, int]) -> Any:
    made = schema.SignatureDefT()
    made.signatureKey = "serving_default"
    made.subgraphIndex = 0
    made.inputs = [_named(tensor, index) for tensor in program.inputs]
    made.outputs = [_named(tensor, index) for tensor in program.outputs]
    return made


def _named(tensor: Tensor, index: dict[int, int]) -> Any:
    made = schema.TensorMapT()
    made.name = tensor.name
    made.tensorIndex = index[id(tensor)]
    return made
