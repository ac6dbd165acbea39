"""A graph as a .tflite in a folder: written once, with all that is known of it beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hasten.errors import RefusedError
from hasten.graph import Signature, TensorSpec
from hasten.runtimes.runtime import Lowered
from hasten.runtimes.vendor import write_once

if TYPE_CHECKING:
    from hasten.graph import Model
    from hasten.runtimes.litert.lowering import Lowering
    from hasten.runtimes.litert.lowering.program import Tensor

__all__ = ["lower_to_file"]


class _Record(msgspec.Struct):
    """What came of lowering a graph: the file, or the reason why there is none."""

    lowered: Lowered | None = None
    refused: str = ""


def lower_to_file(model: Model, folder: Path, *, half: bool) -> Lowered:
    """Lower the graph, unless the folder has it already; ``half`` stores weights as float16.

    A race asks for one graph with many executions, in several runtimes' turns: lowering, or finding
    out that it cannot be, happens once. Raises RefusedError.
    """
    path = folder / f"{model.digest[:16]}{'-f16' if half else ''}.tflite"
    beside = path.with_suffix(".json")
    if beside.exists():
        record = msgspec.json.decode(beside.read_bytes(), type=_Record)
    else:
        try:
            record = _Record(_lower(model, path, half=half))
        except RefusedError as refused:
            record = _Record(refused=str(refused))
        write_once(beside, msgspec.json.encode(record))
    if record.lowered is None:
        raise RefusedError(record.refused)
    return record.lowered


def _lower(model: Model, path: Path, *, half: bool) -> Lowered:
    from hasten.runtimes.litert.lowering import lower_graph
    from hasten.runtimes.litert.lowering.emission import emit_file
    from hasten.runtimes.litert.lowering.half import halve_weights

    lowering = lower_graph(model.graph)
    program, content = lowering.program, lowering.content
    if half:
        program = halve_weights(program)
        content = emit_file(program)
    write_once(path, content)
    nodes = tuple(operator.source for operator in program.operators)
    return Lowered(str(path), "tflite", _signature(model, lowering), nodes=nodes)


def _signature(model: Model, lowering: Lowering) -> Signature:
    """The model's signature with the sizes of the file: a batch that had to be fixed is."""
    program, before = lowering.program, model.signature
    return Signature(
        tuple(_spec(*pair) for pair in zip(before.inputs, program.inputs, strict=True)),
        tuple(_spec(*pair) for pair in zip(before.outputs, program.outputs, strict=True)),
    )


def _spec(spec: TensorSpec, tensor: Tensor) -> TensorSpec:
    sizes = tensor.signature or tensor.shape
    return TensorSpec(spec.name, spec.dtype, tuple(None if dim < 0 else dim for dim in sizes))
