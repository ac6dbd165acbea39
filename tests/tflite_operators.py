"""Files of a few operators each, written with the object API: not by the lowering."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import onnxruntime
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from hasten.graph.tflite import import_program, read_program

__all__ = ["File", "interpreted", "imported", "recomputed"]

Arrays = dict[str, np.ndarray]

_TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "float16": schema.TensorType.FLOAT16,
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
    "uint8": schema.TensorType.UINT8,
    "bool": schema.TensorType.BOOL,
}


@dataclass(eq=False)
class File:
    """A model as it grows: tensors are known by their place."""

    model: Any = field(default_factory=schema.ModelT)
    graph: Any = field(default_factory=schema.SubGraphT)

    def __post_init__(self) -> None:
        self.model.version = 3
        self.model.operatorCodes, self.model.buffers = [], [schema.BufferT()]
        self.model.subgraphs = [self.graph]
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: str = "float32",
        *,
        scale: Sequence[float] = (),
        zero_point: Sequence[int] = (),
        axis: int = 0,
        free: bool = False,
    ) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, list(shape), _TYPES[dtype], 0
        made.hasRank = True
        if free:
            made.shapeSignature = [-1, *shape[1:]]
        if scale:
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = list(scale)
            made.quantization.zeroPoint = list(zero_point or [0] * len(scale))
            made.quantization.quantizedDimension = axis
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def input(self, name: str, shape: Sequence[int], dtype: str = "float32", **more: Any) -> int:
        made = self.tensor(name, shape, dtype, **more)
        self.graph.inputs.append(made)
        return made

    def constant(self, values: Any, dtype: str = "float32", name: str = "", **more: Any) -> int:
        array = np.asarray(values, dtype)
        made = self.tensor(name or f"c{len(self.graph.tensors)}", array.shape, dtype, **more)
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(array.tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.graph.tensors[made].buffer = len(self.model.buffers) - 1
        return made

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        table: str = "",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = _VERSIONS.get(kind, 1)
        self.model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs, made.outputs = list(inputs), list(outputs)
        if table:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, table)
            made.builtinOptions = getattr(schema, f"{table}T")()
            for name, value in (options or {}).items():
                if not hasattr(made.builtinOptions, name):
                    raise AttributeError(f"{table} has no {name}")
                setattr(made.builtinOptions, name, value)
        self.graph.operators.append(made)

    def output(self, *indices: int) -> bytes:
        self.graph.outputs = list(indices)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())


_VERSIONS = {"BATCH_MATMUL": 1, "TRANSPOSE_CONV": 3}


def interpreted(content: bytes, feed: Arrays) -> Arrays:
    """Outputs of LiteRT's interpreter, resized to the feed."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    for detail in interpreter.get_input_details():
        shape = feed[detail["name"]].shape
        if tuple(detail["shape"]) != shape:
            interpreter.resize_tensor_input(detail["index"], shape)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], feed[detail["name"]])
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_output_details()
    }


def imported(content: bytes) -> Any:
    """The graph of a file."""
    return import_program(read_program(content), "net", len(content))


def recomputed(content: bytes, feed: Arrays, *, fused: bool = False) -> Arrays:
    """Outputs of the imported graph in ONNX Runtime.

    Not ``fused``, integers are computed in floats: fused ones saturate on some processors where
    weights use all of their 8 bits.
    """
    options = onnxruntime.SessionOptions()
    if not fused:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        imported(content).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))
