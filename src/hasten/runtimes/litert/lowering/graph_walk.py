"""From an ONNX graph with fixed sizes to a program: node by node, in order.

Constants are folded on the way, shapes are known throughout, and what has no equal in TFLite is
gathered, so that one message names all of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from hasten.errors import RefusedError
from hasten.graph.operators import is_default_domain, node_label, without_defaults
from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.limits import TAKEN
from hasten.runtimes.litert.lowering.node import Node, OutputSpec, infer_outputs
from hasten.runtimes.litert.lowering.operators import OPERATORS
from hasten.runtimes.litert.lowering.opset import opset_of
from hasten.runtimes.litert.lowering.program import Program, Tensor
from hasten.runtimes.litert.lowering.quantization import find_targets
from hasten.runtimes.litert.lowering.reasons import why_not
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["build_program", "input_shapes"]

#: Folding gives up on results larger than this: they are better computed when the model runs.
_MAX_FOLDED_BYTES = 1 << 26

#: What may not be folded although its inputs are constant: each run gives something else, or the
#: pair that it is one half of keeps weights small.
_NEVER_FOLDED = frozenset(
    {
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
        "QuantizeLinear",
        "DequantizeLinear",
    }
)


def build_program(
    proto: onnx.ModelProto,
    shapes: Mapping[str, tuple[int, ...]],
    channels_last: frozenset[str] = frozenset(),
) -> Program:
    """Lower every node. ``shapes`` are of the inputs, all dimensions fixed.

    Inputs named in ``channels_last`` are taken with their channels last; their shape is still
    given in ONNX's order. Raises RefusedError with every node that cannot be lowered.
    """
    walk = _Walk(proto, channels_last)
    walk.declare_inputs(shapes)
    for node in _in_order(proto.graph):
        walk.lower(node)
    if walk.problems:
        raise RefusedError(f"litert has no equal of: {'; '.join(walk.problems)}")
    return walk.finish()


class _Walk:
    def __init__(self, proto: onnx.ModelProto, channels_last: frozenset[str]) -> None:
        self._proto = proto
        self._channels_last = channels_last
        self._opset = opset_of(proto)
        self._functions = {(one.domain, one.name) for one in proto.functions}
        self._to = Builder(targets=find_targets(proto.graph, _in_order(proto.graph)))
        self._inputs: list[Tensor] = []
        self.problems: list[str] = []
        #: Values behind a node that could not be lowered: what reads them is not judged.
        self._unknown: set[str] = set()

    def declare_inputs(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for tensor in self._proto.graph.initializer:
            self._to.bind(
                tensor.name, self._to.constant(numpy_helper.to_array(tensor), tensor.name)
            )
        for value in self._proto.graph.input:
            if value.name in self._to.values:
                continue
            shape = shapes[value.name]
            dtype = np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
            if dtype not in TAKEN:
                self.problems.append(f"input {value.name}: kernels take no {_name(dtype)}")
                self._unknown.add(value.name)
                continue
            last = value.name in self._channels_last
            perm = layout.channels_last(len(shape)) if last else layout.identity(len(shape))
            tensor = Tensor(value.name, dtype, layout.apply(perm, shape))
            self._inputs.append(tensor)
            self._to.bind(value.name, tensor, perm)

    def lower(self, proto: onnx.NodeProto) -> None:
        node = Node(_in_short_domain(proto), self._opset)
        self._to.source = node.label
        known = [name for name in node.inputs if name]
        if not self._unknown.isdisjoint(known):
            self._unknown.update(node.outputs)
            if node.op not in OPERATORS and node.op not in _OF_SHAPES:
                self.problems.append(f"{node.op} (node {node.label}): {self._why_not(node)}")
            return
        try:
            self._lower(node, known)
        except Unsupported as reason:
            self.problems.append(f"{node.op} (node {node.label}): {reason}")
            self._unknown.update(node.outputs)

    def _lower(self, node: Node, known: list[str]) -> None:
        own = (node.proto.domain, node.op) not in self._functions
        if not own or not is_default_domain(node.proto.domain):
            raise Unsupported(self._why_not(node))
        if self._fold(node, known):
            return
        handler = OPERATORS.get(node.op)
        if handler is None:
            raise Unsupported(self._why_not(node))
        values = {name: self._to.value(name) for name in known}
        for name, value in values.items():
            _require_taken(f"reads {name}, but", value.dtype, node)
        kinds = {name: (value.dtype, value.shape) for name, value in values.items()}
        data = {name: array for name in known if (array := self._small(values[name])) is not None}
        node.specs = infer_outputs(node.proto, self._opset, kinds, data)
        for spec in node.specs:
            _require_taken("its output:", spec.dtype, node)
        handler(node, self._to)
        for name, spec in zip([one for one in node.outputs if one], node.specs, strict=True):
            self._check(name, spec)

    def _why_not(self, node: Node) -> str:
        if (node.proto.domain, node.op) in self._functions:
            return "a function of the model itself"
        if not is_default_domain(node.proto.domain):
            return f"an operator of {node.proto.domain}"
        return why_not(node.op)

    def _small(self, value: Value) -> np.ndarray | None:
        """Elements of a constant that shape inference may ask for."""
        small = value.constant and value.tensor.size <= _MAX_INFERENCE
        return self._to.data_of(value) if small else None

    def _check(self, name: str, spec: OutputSpec) -> None:
        """What was lowered has the shape and dtype that ONNX says: else the lowering is wrong."""
        value = self._to.values.get(name)
        if value is None:
            raise Unsupported(f"its output {name} is not covered")
        if value.shape != spec.shape or value.dtype != spec.dtype:
            raise Unsupported(
                f"{name} would be {value.dtype}{list(value.shape)}"
                f" instead of {spec.dtype}{list(spec.shape)}"
            )

    def _fold(self, node: Node, known: list[str]) -> bool:
        """Compute a node now, where all it reads is constant or it asks for a shape alone."""
        if node.op == "Shape":
            shape = self._to.value(node.input(0)).shape
            start, end = node.attribute("start", 0), node.attribute("end", len(shape))
            self._bind_constants(node, [np.array(shape[start:end], np.int64)])
            return True
        if node.op == "Size":
            size = np.prod(self._to.value(node.input(0)).shape, dtype=np.int64)
            self._bind_constants(node, [np.array(size, np.int64)])
            return True
        if node.op in _NEVER_FOLDED or not all(self._to.value(name).constant for name in known):
            return False
        if any(attribute.HasField("g") for attribute in node.proto.attribute):
            return False
        found = self._evaluate(node, known)
        if sum(array.nbytes for array in found) > _MAX_FOLDED_BYTES:
            return False
        self._bind_constants(node, found)
        return True

    def _evaluate(self, node: Node, known: list[str]) -> list[np.ndarray]:
        from onnx.reference import ReferenceEvaluator

        feed = {name: self._to.array(name) for name in known}
        try:
            # Some of its operators take no attribute that says what is the default anyway.
            plain = without_defaults(node.proto, self._opset)
            evaluator = ReferenceEvaluator(plain, opsets={"": self._opset})
            found = evaluator.run([name for name in node.outputs if name], feed)
        except Exception as error:
            raise Unsupported(f"cannot be computed beforehand: {error}") from error
        return [np.asarray(array) for array in found]

    def _bind_constants(self, node: Node, arrays: list[np.ndarray]) -> None:
        for name, array in zip([one for one in node.outputs if one], arrays, strict=True):
            self._to.bind(name, self._to.constant(array, name))

    def finish(self) -> Program:
        """Give outputs their names and ONNX's order of axes.

        Raises RefusedError for an output that nothing makes, or that no kernel gives.
        """
        outputs: list[Tensor] = []
        taken = {id(tensor) for tensor in self._inputs}
        for output in self._proto.graph.output:
            self._to.source = output.name
            if output.name not in self._to.values:
                raise RefusedError(f"nothing makes {output.name}, an output of the graph")
            tensor = self._output(output)
            if tensor.dtype not in TAKEN:
                raise RefusedError(
                    f"litert has no equal of output {output.name}:"
                    f" kernels take no {_name(tensor.dtype)}"
                )
            if id(tensor) in taken or tensor.data is not None:
                tensor = self._copy(tensor)
            taken.add(id(tensor))
            tensor.name = output.name
            outputs.append(tensor)
        return Program(self._inputs, outputs, self._to.operators)

    def _output(self, output: onnx.ValueInfoProto) -> Tensor:
        value = self._to.real(self._to.value(output.name))
        tensor = self._to.stored(value)
        return tensor if tensor.dtype == value.dtype else self._unsigned(tensor, value.dtype)

    def _unsigned(self, tensor: Tensor, dtype: np.dtype[Any]) -> Tensor:
        """Codes that ONNX has without a sign: shifted back where they leave the model."""
        if tensor.quantization is None:
            raise RefusedError(f"litert would give {tensor.name} as {tensor.dtype}, not {dtype}")
        return self._to.with_other_sign(tensor, dtype)

    def _copy(self, tensor: Tensor) -> Tensor:
        """An output is a tensor of its own: not an input, a constant or another output."""
        shape = self._to.sizes(*tensor.shape)
        return self._to.emit(
            "RESHAPE", [tensor, shape], tensor.shape, like=tensor, newShape=list(tensor.shape)
        )


_MAX_INFERENCE = 4096

#: What is computed from shapes, without a lowering.
_OF_SHAPES = frozenset({"Constant", "Shape", "Size"})


def _in_short_domain(proto: onnx.NodeProto) -> onnx.NodeProto:
    """A node of ONNX's own, with the spelling of their domain that schemas are found under."""
    if not proto.domain or not is_default_domain(proto.domain):
        return proto
    made = onnx.NodeProto()
    made.CopyFrom(proto)
    made.ClearField("domain")
    return made


def _require_taken(what: str, dtype: np.dtype[Any], node: Node) -> None:
    """Codes of 16 bits without a sign are stored with one; other dtypes have no kernels."""
    codes = dtype == np.uint16 and node.op in _CODES
    if dtype not in TAKEN and not codes:
        raise Unsupported(f"{what} kernels take no {_name(dtype)}")


_CODES = frozenset({"DequantizeLinear", "QuantizeLinear"})


def _name(dtype: np.dtype[Any]) -> str:
    return "text" if dtype.kind in "OSU" else dtype.name


def _in_order(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Nodes behind all that they read: writers of quantized graphs append what comes first.

    Raises RefusedError where nodes wait for each other or for a value that nothing makes, and where
    two of them make the same.
    """
    _require_single(graph)
    made = {value.name for value in (*graph.input, *graph.initializer)} | {""}
    waiting = list(graph.node)
    ordered: list[onnx.NodeProto] = []
    while waiting:
        left = []
        for node in waiting:
            if all(name in made for name in node.input):
                ordered.append(node)
                made.update(node.output)
            else:
                left.append(node)
        if len(left) == len(waiting):
            lost = next(name for name in left[0].input if name not in made)
            raise RefusedError(f"nothing makes {lost}, which node {node_label(left[0])} reads")
        waiting = left
    return ordered


def _require_single(graph: onnx.GraphProto) -> None:
    made = [name for node in graph.node for name in node.output if name]
    made += [value.name for value in graph.input]
    for names, what in ((made, "made"), ([value.name for value in graph.output], "given out")):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise RefusedError(f"{', '.join(twice)} would be {what} twice")


def input_shapes(proto: onnx.ModelProto) -> dict[str, tuple[Any, ...]]:
    """Shape of each input: ints, names of free dimensions, None for one without a name.

    Raises RefusedError where an input is no tensor, or has no number of axes.
    """
    constants = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.input:
        kind = value.type
        if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
            raise RefusedError(f"litert needs the shape of input {value.name}: it is not declared")
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param or None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in proto.graph.input
        if value.name not in constants
    }
