"""From the bytes of a .tflite file to a program: everything that an index leads to is checked.

Source: schema.fbs of LiteRT (schema version 3); slots below are the numbers of its fields.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from hasten.graph.tflite.flatbuffer import Table, root
from hasten.graph.tflite.program import Operator, Program
from hasten.graph.tflite.refusal import Damaged
from hasten.graph.tflite.tensors import TensorReader
from hasten.graph.tflite.types import unpacked

__all__ = ["IDENTIFIER", "read_program"]

#: schema.fbs: file_identifier. It follows the offset to the root table.
IDENTIFIER = b"TFL3"
_IDENTIFIED = struct.Struct("<I4s")

#: A file of version 3 is what every converter has written since 2017.
_SCHEMA_VERSION = 3

# Fields of Model.
_VERSION, _CODES, _SUBGRAPHS, _BUFFERS = 0, 1, 2, 4
# Fields of SubGraph.
_TENSORS, _INPUTS, _OUTPUTS, _OPERATORS = 0, 1, 2, 3
# Fields of OperatorCode: codes up to 127 were once kept in a byte.
_OLD_CODE, _CUSTOM, _CODE = 0, 1, 3
# Fields of Operator.
_CODE_INDEX, _READS, _WRITES, _OPTIONS_TYPE, _OPTIONS = 0, 1, 2, 3, 4
_OPTIONS_2_TYPE, _OPTIONS_2 = 11, 12


def read_program(data: bytes) -> Program:
    """Read the main subgraph. Raises Damaged with what is wrong."""
    if len(data) < _IDENTIFIED.size or _IDENTIFIED.unpack_from(data)[1] != IDENTIFIER:
        raise Damaged(f"{len(data)} bytes without its identifier {IDENTIFIER.decode()}")
    model = root(data)
    version = model.number(_VERSION, "I")
    if version != _SCHEMA_VERSION:
        raise Damaged(f"schema version {version} instead of {_SCHEMA_VERSION}")
    subgraphs = model.tables(_SUBGRAPHS)
    if not subgraphs:
        raise Damaged("no subgraph")
    return _Subgraph(data, model, model.at(subgraphs[0])).read()


class _Subgraph:
    def __init__(self, data: bytes, model: Table, graph: Table) -> None:
        self._data = data
        self._model = model
        self._graph = graph
        self._codes = [_code(model.at(at)) for at in model.tables(_CODES)]

    def read(self) -> Program:
        reader = TensorReader(self._data, self._model, self._model.tables(_BUFFERS))
        tensors = [
            reader.tensor(at, self._graph.at(position))
            for at, position in enumerate(self._graph.tables(_TENSORS))
        ]
        inputs = self._indices(self._graph, _INPUTS, len(tensors), "input")
        outputs = self._indices(self._graph, _OUTPUTS, len(tensors), "output")
        if not outputs:
            raise Damaged("no outputs")
        program = Program(tensors, self._operators(len(tensors)), inputs, outputs)
        _fill_empty(program)
        _require_order(program)
        return program

    def _operators(self, tensors: int) -> list[Operator]:
        operators: list[Operator] = []
        operands = 0
        for at, position in enumerate(self._graph.tables(_OPERATORS)):
            operator = self._operator(at, self._graph.at(position), tensors)
            operands += len(operator.inputs) + len(operator.outputs) + 1
            # Tables may share vectors, so that a small file could ask for a lot of memory.
            if operands > len(self._data):
                raise Damaged(f"more than {operands} operands in {len(self._data)} bytes")
            operators.append(operator)
        return operators

    def _operator(self, at: int, table: Table, tensors: int) -> Operator:
        index = table.number(_CODE_INDEX, "I")
        if index >= len(self._codes):
            raise Damaged(f"operator {at} of code {index} of {len(self._codes)}")
        kind, custom = self._codes[index]
        reads = self._indices(table, _READS, tensors, f"operator {at} ({kind}): input", low=-1)
        writes = self._indices(table, _WRITES, tensors, f"operator {at} ({kind}): output")
        return Operator(at, kind, reads, writes, _options(self._data, table), custom)

    def _indices(
        self, table: Table, slot: int, tensors: int, role: str, low: int = 0
    ) -> tuple[int, ...]:
        found = table.array(slot, "<i4")
        if found.size > len(self._data):
            raise Damaged(f"{found.size} {role}s")
        indices: tuple[int, ...] = tuple(found.tolist())
        for at, index in enumerate(indices):
            if not low <= index < tensors:
                raise Damaged(f"{role} {at} at tensor {index} of {tensors}")
        return indices


def _code(table: Table) -> tuple[str, str]:
    """Name of the operator, and of the custom operator where it is one."""
    number = max(table.number(_OLD_CODE, "b"), table.number(_CODE, "i"))
    kind = _names("BuiltinOperator").get(number)
    if kind is None:
        raise Damaged(f"operator code {number}, which this schema does not have")
    return kind, table.text(_CUSTOM) if kind == "CUSTOM" else ""


def _options(data: bytes, table: Table) -> Any:
    for union, kind_slot, slot in (
        ("BuiltinOptions", _OPTIONS_TYPE, _OPTIONS),
        ("BuiltinOptions2", _OPTIONS_2_TYPE, _OPTIONS_2),
    ):
        number = table.number(kind_slot, "B")
        held = table.table(slot)
        if number == 0 or held is None:
            continue
        name = _names(union).get(number)
        if name is None:
            raise Damaged(f"options of type {number}, which this schema does not have")
        options = getattr(schema, name)()
        options.Init(data, held.position)
        return options
    return None


@cache
def _names(enumeration: str) -> dict[int, str]:
    members = vars(getattr(schema, enumeration)).items()
    return {number: name for name, number in members if not name.startswith("_")}


def _fill_empty(program: Program) -> None:
    """Constants without elements have no bytes either."""
    made = {index for operator in program.operators for index in operator.outputs}
    made.update(program.inputs)
    for tensor in program.tensors:
        if tensor.size or tensor.data is not None or tensor.trouble or tensor.index in made:
            continue
        if tensor.dtype != "str":
            tensor.data = unpacked(b"", 0, tensor.dtype, tensor.shape)


def _require_order(program: Program) -> None:
    """Each tensor is known before it is read, and written once: so there are no cycles."""
    known = {tensor.index for tensor in program.tensors if tensor.data is not None} | {-1}
    for index in program.inputs:
        if index in known:
            raise Damaged(
                f"input {program.tensors[index].name!r} that is a constant or given twice"
            )
        known.add(index)
    for operator in program.operators:
        where = f"operator {operator.position} ({operator.kind})"
        for index in operator.inputs:
            if index not in known and not program.tensors[index].trouble:
                raise Damaged(f"{where} that reads tensor {index} before anything writes it")
        for index in operator.outputs:
            if index in known:
                raise Damaged(f"{where} that writes tensor {index}, which is written already")
            known.add(index)
    for index in program.outputs:
        if index not in known and not program.tensors[index].trouble:
            raise Damaged(f"output at tensor {index}, which nothing writes")
