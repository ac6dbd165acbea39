"""TensorFlow Lite models: brought into the graph, with the file itself kept beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.errors import ModelError, RefusedError
from hasten.graph.model import Model, TFLiteSource
from hasten.graph.onnx_file import model_from_proto, read_model_bytes
from hasten.graph.signature import Signature, TensorSpec

if TYPE_CHECKING:
    from hasten.graph.tflite import Program

__all__ = ["read_tflite"]


def read_tflite(path: str | Path) -> Model:
    """Read a .tflite file as an ONNX graph that computes the same.

    Inputs and outputs have the names of the tensors, as in ``Interpreter.get_input_details()``,
    and their shapes; a dimension of -1 in ``shape_signature`` is free. The bytes stay with the
    model, so that LiteRT runs them as they are. Where an operator has no equal in ONNX, the model
    has the bytes alone, and ``tflite.refusal`` names each such operator.

    Raises ModelError when the file is missing, damaged or not TFLite.
    """
    path = Path(path)
    data = read_model_bytes(path, kind="a .tflite file")
    from hasten.graph.tflite import Damaged, import_program, read_program

    try:
        program = read_program(data)
        signature = _signature(program, str(path))
        try:
            graph = import_program(program, path.stem, len(data))
            found = model_from_proto(graph, path.stem)
        except (ModelError, RefusedError) as refused:
            return Model(path.stem, data, signature, tflite=TFLiteSource(data, str(refused)))
    except Damaged as damage:
        raise ModelError(expected="a .tflite file", got=str(damage), where=str(path)) from None
    origin = TFLiteSource(data, notes=tuple(program.notes))
    return replace(found, tflite=origin)


def _signature(program: Program, where: str) -> Signature:
    return Signature(
        _specs(program, program.inputs, "input", where),
        _specs(program, program.outputs, "output", where),
    )


def _specs(
    program: Program, indices: tuple[int, ...], role: str, where: str
) -> tuple[TensorSpec, ...]:
    tensors = [program.tensors[index] for index in indices]
    for at, tensor in enumerate(tensors):
        if tensor.dtype.startswith("TensorType"):
            raise ModelError(
                expected=f"a dtype that arrays have for {role} {at}", got=tensor.dtype, where=where
            )
        if not tensor.name:
            raise ModelError(expected=f"a name for {role} {at}", got="none", where=where)
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names):
        raise ModelError(
            expected=f"a name of its own for each {role}", got=", ".join(names), where=where
        )
    return tuple(TensorSpec(tensor.name, tensor.dtype, tensor.declared) for tensor in tensors)
