"""Small ONNX graphs, run by ONNX Runtime as they are and by LiteRT as they are lowered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper, numpy_helper

from hasten.runtimes.litert.lowering import Lowering, lower_graph

__all__ = ["Net", "assert_same", "assert_within_a_step", "kinds", "run_lowered", "run_onnx"]

Arrays = dict[str, np.ndarray]


@dataclass
class Net:
    """A graph that grows node by node; the batch stays free unless it is given."""

    inputs: Mapping[str, Sequence[int]]
    opset: int = 21
    batch: int | None = None
    seed: int = 0
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)

    def weights(self, *shape: int, scale: float = 0.5) -> str:
        """Name of a new constant of random numbers."""
        return self.constant(self._rng.normal(size=shape).astype(np.float32) * np.float32(scale))

    def constant(self, array: np.ndarray) -> str:
        """Name of a new constant."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array)
        return name

    def add(self, op: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """Name of the first output of a new node; more are numbered from 1."""
        name = f"v{len(self.nodes)}"
        names = [name, *(f"{name}.{at}" for at in range(1, outputs))]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=name, **attributes))
        return name

    def paired(self, value: str, scale: float, zero_point: int, dtype: Any = np.int8) -> str:
        """The value through a QuantizeLinear and a DequantizeLinear."""
        form = (
            self.constant(np.array(scale, np.float32)),
            self.constant(np.array(zero_point, dtype)),
        )
        return self.add("DequantizeLinear", self.add("QuantizeLinear", value, *form), *form)

    def int8_weights(self, *shape: int, axis: int | None = 0, scale: float = 0.2) -> str:
        """Random weights kept in symmetric int8, one scale for each index of an axis."""
        real = self._rng.normal(size=shape).astype(np.float32) * np.float32(scale)
        others = None if axis is None else tuple(at for at in range(len(shape)) if at != axis)
        scales = np.abs(real).max(axis=others).astype(np.float32) / np.float32(127)
        along = [1] * len(shape)
        if axis is not None:
            along[axis] = -1
        codes = np.rint(real / scales.reshape(along)).astype(np.int8)
        zeros = np.zeros(scales.shape, np.int8)
        names = [self.constant(one) for one in (codes, scales, zeros)]
        return self.add("DequantizeLinear", *names, axis=axis or 0)

    def model(self, *outputs: str) -> onnx.ModelProto:
        """The checked model, with the shapes of its outputs inferred."""
        graph = helper.make_graph(
            self.nodes,
            "net",
            [
                helper.make_tensor_value_info(
                    name, TensorProto.FLOAT, [self.batch or "batch", *shape]
                )
                for name, shape in self.inputs.items()
            ],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", self.opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    def feed(self, batch: int) -> Arrays:
        """Random inputs."""
        return {
            name: self._rng.normal(size=(batch, *shape)).astype(np.float32)
            for name, shape in self.inputs.items()
        }


def run_onnx(model: onnx.ModelProto, feed: Arrays) -> Arrays:
    """Each node as ONNX says: nothing is fused."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def run_lowered(lowering: Lowering, feed: Arrays) -> Arrays:
    """The file, in the interpreter with XNNPACK."""
    interpreter = Interpreter(model_content=lowering.content, num_threads=1)
    details = {detail["name"]: detail["index"] for detail in interpreter.get_input_details()}
    for name, index in details.items():
        interpreter.resize_tensor_input(index, feed[name].shape, strict=True)
    interpreter.allocate_tensors()
    for name, index in details.items():
        interpreter.set_tensor(index, feed[name])
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_output_details()
    }


def assert_same(net: Net, *outputs: str, batches: Sequence[int] = (1, 3)) -> Lowering:
    """One file gives what ONNX Runtime gives, within 1e-4 of the largest value, for each batch."""
    model = net.model(*outputs)
    lowering = lower_graph(model)
    for batch in batches:
        feed = net.feed(batch)
        found = run_lowered(lowering, feed)
        for name, want in run_onnx(model, feed).items():
            limit = 1e-4 * max(float(np.abs(want).max(initial=0.0)), 1e-3)
            np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=limit)
    return lowering


def assert_within_a_step(
    net: Net, output: str, step: float, *, batches: Sequence[int] = (1, 3), share: float = 0.999
) -> Lowering:
    """One file is within a step of the output's scale of the unfused graph, for each batch."""
    model = net.model(output)
    lowering = lower_graph(model)
    for batch in batches:
        feed = net.feed(batch)
        want = run_onnx(model, feed)[output]
        assert np.unique(want).size > 4  # else nothing is compared
        apart = np.abs(run_lowered(lowering, feed)[output] - want)
        assert np.mean(apart <= 1.01 * step) >= share
    return lowering


def kinds(lowering: Lowering) -> list[str]:
    """Kinds of the operators in the file, in order."""
    return [operator.kind for operator in lowering.program.operators]
