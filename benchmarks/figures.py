"""What the benchmarks share: models to time, and how a figure is printed and held to its target."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["MODELS", "Figure", "convnet", "null_model", "report"]


class Figure(NamedTuple):
    """One line: what was measured, the figure, its target, and whether it is met."""

    what: str
    figure: str
    target: str
    met: bool


def report(figures: Sequence[Figure]) -> int:
    """Print the figures; returns the exit status, 1 where one misses its target."""
    width = max(len(figure.what) for figure in figures)
    for figure in figures:
        mark = "met" if figure.met else "MISSED"
        print(f"{figure.what:<{width}}  {figure.figure:>22}  target {figure.target:<28} {mark}")
    return 0 if all(figure.met for figure in figures) else 1


def mlp(width: int = 256) -> onnx.ModelProto:
    """A 64-256-256-10 perceptron: per-call cost is nearly everything."""
    sizes = [64, width, width, 10]
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for at, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        values = random.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{at}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{at}"], [f"h{at}"], f"matmul{at}"))
        nodes.append(helper.make_node("Relu", [f"h{at}"], [f"r{at}"], f"relu{at}"))
        last = f"r{at}"
    nodes[-1].output[0] = "y"
    return _model(nodes, weights, [None, 64], [None, 10])


def convnet() -> onnx.ModelProto:
    """Six 3x3 convolutions of 32 channels on 56x56: some milliseconds a run."""
    random = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for at in range(6):
        values = random.normal(0, 0.06, (32, 32, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(values, f"w{at}"))
        nodes.append(
            helper.make_node("Conv", [last, f"w{at}"], [f"h{at}"], f"conv{at}", pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"h{at}"], [f"r{at}"], f"relu{at}"))
        last = f"r{at}"
    nodes[-1].output[0] = "y"
    return _model(nodes, weights, [None, 32, 56, 56], [None, 32, 56, 56])


def null_model(cost_ns: int, jitter: float = 0.02) -> onnx.ModelProto:
    """A model whose run takes this long in the null runtime."""
    model = _model([helper.make_node("Identity", ["x"], ["y"], "same")], [], [None, 4], [None, 4])
    helper.set_model_props(
        model, {"hasten.null.cost_ns": str(cost_ns), "hasten.null.jitter": str(jitter)}
    )
    return model


def _model(
    nodes: Sequence[onnx.NodeProto],
    weights: Sequence[onnx.TensorProto],
    taken: Sequence[int | None],
    given: Sequence[int | None],
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *taken[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", *given[1:]])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {"mlp": mlp, "convnet": convnet}
