"""Small real .tflite files, made with the flatbuffers object API."""

from __future__ import annotations

import flatbuffers
from ai_edge_litert import schema_py_generated as schema

FLOAT32 = schema.TensorType.FLOAT32


def tensor(
    name: str, shape: list[int], *, signature: list[int] | None = None, dtype: int = FLOAT32
) -> schema.TensorT:
    """One tensor without constant data; ``signature`` has -1 where the shape is free."""
    made = schema.TensorT()
    made.name = name
    made.shape = shape
    made.shapeSignature = signature
    made.type = dtype
    made.buffer = 0
    return made


def add_model(
    shape: list[int] | None = None,
    *,
    signature: list[int] | None = None,
    dtype: int = FLOAT32,
    inputs: list[int] | None = None,
    names: tuple[str, str, str] = ("left", "right", "sum"),
) -> bytes:
    """Return the bytes of a .tflite that adds ``left`` and ``right`` (1 x 4 floats) to ``sum``.

    ``inputs`` are the tensor indices the subgraph claims as its inputs.
    """
    shape = shape or [1, 4]
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.ADD
    code.deprecatedBuiltinCode = schema.BuiltinOperator.ADD
    code.version = 1
    add = schema.OperatorT()
    add.opcodeIndex = 0
    add.inputs, add.outputs = [0, 1], [2]
    add.builtinOptionsType = schema.BuiltinOptions.AddOptions
    add.builtinOptions = schema.AddOptionsT()
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [tensor(name, shape, signature=signature, dtype=dtype) for name in names]
    graph.operators = [add]
    graph.inputs, graph.outputs = inputs or [0, 1], [2]
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = [code]
    model.subgraphs = [graph]
    model.buffers = [schema.BufferT()]
    return packed(model)


def packed(model: schema.ModelT) -> bytes:
    """Return the file of a model in the object API."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
