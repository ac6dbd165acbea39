"""From a program to an ONNX graph: every operator in turn, and what it makes is checked."""

from __future__ import annotations

import struct

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from hasten.errors import RefusedError
from hasten.graph.signature import numpy_dtype
from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators import OPERATORS
from hasten.graph.tflite.program import Operator, Program, Tensor
from hasten.graph.tflite.refusal import Damaged, Unsupported

__all__ = ["import_program"]

_OPSET, _IR_VERSION = 18, 9
#: QuantizeLinear takes int16 from this opset on.
_OPSET_INT16, _IR_VERSION_INT16 = 21, 10

#: Constants that shape inference may ask for are shapes, axes and the like: short.
_MAX_INFERENCE_BYTES = 1024

#: Data and weights of operators that take float data and integer weights: they quantize the data
#: while they run, which the graph does not.
_HYBRID = {
    "BATCH_MATMUL": (0, 1),
    "CONV_2D": (0, 1),
    "DEPTHWISE_CONV_2D": (0, 1),
    "FULLY_CONNECTED": (0, 1),
    "TRANSPOSE_CONV": (2, 1),
}

#: What reading an option can raise where its table has been tampered with.
_READ_ERRORS = (struct.error, ArithmeticError, LookupError, TypeError, ValueError)


def import_program(program: Program, name: str, file_bytes: int) -> onnx.ModelProto:
    """Return the graph that computes what the program does, inputs and outputs as they are there.

    Raises RefusedError with every operator that has no equal, by position and name, and Damaged
    where options make no sense.
    """
    free = any(None in program.tensors[at].declared[:1] for at in program.inputs)
    to = Builder(program, file_bytes, free)
    program.notes += _notes(program)
    walk = _Walk(program, to)
    try:
        walk.declare_inputs()
        for operator in program.operators:
            walk.take(operator)
        if walk.problems:
            raise RefusedError(f"no ONNX equal of: {'; '.join(walk.problems)}")
        return walk.finish(name)
    except Unsupported as reason:
        raise RefusedError(f"no ONNX equal: {reason}") from None


def _notes(program: Program) -> list[str]:
    """Where the graph computes in another precision than the file."""
    hybrid = 0
    for op in program.operators:
        places = _HYBRID.get(op.kind)
        if places is not None:
            data, weights = (op.input(at) for at in places)
            if min(data, weights) < 0:
                continue
            one, other = program.tensors[data], program.tensors[weights]
            hybrid += one.quantization is None and other.quantization is not None
    if not hybrid:
        return []
    return [
        f"{hybrid} operators of the .tflite quantize their input while they run; every other"
        " runtime and step takes it as it is, with the same weights"
    ]


class _Walk:
    def __init__(self, program: Program, to: Builder) -> None:
        self._program = program
        self._to = to
        self.problems: list[str] = []
        #: Tensors behind an operator that could not be imported: what reads them is not judged.
        self._unknown: set[int] = set()
        self._declared = {at: program.tensors[at] for at in program.outputs}

    def declare_inputs(self) -> None:
        names = [self._program.tensors[at].name for at in self._edge()]
        if len(set(names)) != len(names) or "" in names:
            raise RefusedError("an input or output without a name of its own")
        for at in self._edge():
            self._to.named(self._to.tensor(at).name)
        for at in self._program.inputs:
            self._to.source = self._program.tensors[at].name
            self._to.bind_input(at)

    def _edge(self) -> tuple[int, ...]:
        return (*self._program.inputs, *self._program.outputs)

    def take(self, op: Operator) -> None:
        label = (op.custom_code and f"CUSTOM {op.custom_code!r}") or op.kind
        known = self._unknown.isdisjoint(op.inputs)
        handler = OPERATORS.get(op.kind)
        to = self._to
        names = [self._program.tensors[at].name for at in op.outputs]
        to.source = next(filter(None, names), f"{op.kind}_{op.position}")
        try:
            if handler is None or not op.outputs:
                raise Unsupported("")
            if not known:
                self._unknown.update(op.outputs)
                return
            handler(op, to)
        except Unsupported as reason:
            words = f": {reason}" if str(reason) else ""
            self.problems.append(f"{label} (operator {op.position}, {to.source}){words}")
            self._unknown.update(op.outputs)
        except Damaged:
            raise
        except _READ_ERRORS as error:
            raise Damaged(
                f"operator {op.position} ({label}) that makes no sense ({type(error).__name__})"
            ) from None
        else:
            made = to.stored.keys() | {at for at in op.outputs if to.is_constant(at)}
            missing = [at for at in op.outputs if at not in made]
            if missing:
                self.problems.append(
                    f"{label} (operator {op.position}, {to.source}): has {len(op.outputs)} outputs"
                )
                self._unknown.update(missing)

    def finish(self, name: str) -> onnx.ModelProto:
        """Put names and orders of axes at the edge, and hold every shape against the file's."""
        to, program = self._to, self._program
        wanted: dict[str, str] = {}
        for at in program.outputs:
            tensor = to.tensor(at)
            to.source = tensor.name
            wanted[self._output(tensor, wanted)] = tensor.name
        for node in to.nodes:
            node.input[:] = [wanted.get(one, one) for one in node.input]
            node.output[:] = [wanted.get(one, one) for one in node.output]
        self._wanted = wanted
        int16 = any(
            tensor.dtype == "int16" and tensor.quantization is not None
            for tensor in program.tensors
        )
        shapes = self._inferred(name, int16=int16)
        self._check(shapes)
        outputs = [self._info(tensor, shapes) for tensor in self._declared.values()]
        return self._model(name, outputs, to.constants, int16=int16)

    def _output(self, tensor: Tensor, taken: dict[str, str]) -> str:
        """The value that gets an output's name: it is no input, no constant and no other output."""
        to = self._to
        if tensor.index not in to.stored:
            if self._declared[tensor.index].quantization is not None:
                raise RefusedError(f"no ONNX equal: output {tensor.name} is a constant in integers")
            to.bind_stored(tensor.index, to.read(tensor.index))
        found = to.output(tensor.index)
        edge = {self._program.tensors[at].name for at in self._program.inputs}
        if found in taken or found in edge or found in to.constants:
            found = to.emit("Identity", [found])
        return found

    def _info(self, tensor: Tensor, shapes: dict[str, list[int | None]]) -> onnx.ValueInfoProto:
        dims = list(tensor.declared)
        found = shapes.get(tensor.name)
        # Files do not always say that an output grows with the input.
        if found is not None and self._is_free():
            dims = [None if have is None else dim for dim, have in zip(dims, found, strict=True)]
        named = [_free(tensor, at) if dim is None else dim for at, dim in enumerate(dims)]
        return helper.make_tensor_value_info(tensor.name, _elem_type(tensor), named)

    def _is_free(self) -> bool:
        return any(None in self._program.tensors[at].declared for at in self._program.inputs)

    def _inferred(self, name: str, *, int16: bool) -> dict[str, list[int | None]]:
        """Shapes by ONNX's own inference; large constants take part as inputs."""
        small, large = {}, []
        for key, array in self._to.constants.items():
            if array.nbytes <= _MAX_INFERENCE_BYTES:
                small[key] = array
            else:
                kind = helper.np_dtype_to_tensor_dtype(array.dtype)
                large.append(helper.make_tensor_value_info(key, kind, array.shape))
        outputs = [
            helper.make_tensor_value_info(tensor.name, _elem_type(tensor), None)
            for tensor in self._declared.values()
        ]
        model = self._model(name, outputs, small, int16=int16, more=large)
        try:
            shaped = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
            words = " ".join(str(error).split())
            raise RefusedError(f"no ONNX equal: shapes do not fit ({words[:200]})") from None
        return {
            value.name: [
                dim.dim_value if dim.HasField("dim_value") else None
                for dim in value.type.tensor_type.shape.dim
            ]
            for value in (*shaped.graph.value_info, *shaped.graph.output)
            if value.type.tensor_type.HasField("shape")
        }

    def _check(self, shapes: dict[str, list[int | None]]) -> None:
        """What was imported has the shapes that the file says: else the import is wrong."""
        problems = []
        for index, value in self._to.stored.items():
            found = shapes.get(self._wanted.get(value.name, value.name))
            if found is None:
                continue
            tensor = self._to.tensor(index)
            want = layout.apply(value.perm, tensor.declared)
            fits = len(found) == len(want) and all(
                None in {have, wanted} or have == wanted
                for have, wanted in zip(found, want, strict=True)
            )
            if not fits:
                problems.append(f"{tensor.name} would be {found} instead of {list(want)}")
        if problems:
            raise RefusedError(f"no ONNX equal: {'; '.join(problems)}")

    def _model(
        self,
        name: str,
        outputs: list[onnx.ValueInfoProto],
        constants: dict[str, np.ndarray],
        *,
        int16: bool,
        more: list[onnx.ValueInfoProto] | None = None,
    ) -> onnx.ModelProto:
        inputs = [self._info(self._program.tensors[at], {}) for at in self._program.inputs]
        initializers = [numpy_helper.from_array(array, key) for key, array in constants.items()]
        graph = helper.make_graph(
            self._to.nodes, name, [*inputs, *(more or [])], outputs, initializers
        )
        opset = helper.make_opsetid("", _OPSET_INT16 if int16 else _OPSET)
        return helper.make_model(
            graph,
            opset_imports=[opset],
            ir_version=_IR_VERSION_INT16 if int16 else _IR_VERSION,
            producer_name="hasten",
        )


def _elem_type(tensor: Tensor) -> int:
    if tensor.dtype == "int4":
        return int(TensorProto.INT8)
    return int(helper.np_dtype_to_tensor_dtype(numpy_dtype(tensor.dtype)))


def _free(tensor: Tensor, axis: int) -> str:
    return "batch" if axis == 0 else f"{tensor.name}_{axis}"
