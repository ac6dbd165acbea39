"""The first tensor of a graph that comes out otherwise on another runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hasten.data.fidelity import decibels, noise_limit
from hasten.errors import HastenError
from hasten.graph import FLOAT, Model, Signature, TensorSpec, constants_of
from hasten.graph.operators import operator_label
from hasten.runtimes import EXACT, Arrays, Execution, any_runtime
from hasten.worker.session import in_worker

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx

__all__ = ["Outputs", "cut_at", "first_drift", "first_noisy"]

#: Runs a model on the samples at hand.
Outputs = Callable[[Model], "list[Arrays]"]

#: A tensor that a runtime refuses to give is passed by; after so many the search ends.
_PASSED_BY = 3


def first_drift(model: Model, exact: Outputs, other: Outputs, allowed: float) -> str:
    """Name the first tensor that parts by more than ``allowed`` of what varies, and its operator.

    The graph is cut at a tensor, and both runtimes run what is before it: halving finds the first
    in few cuts, if what has drifted does not come back. Empty where no tensor inside parts.
    """
    tensors = _tensors(model.graph)
    low, high = -1, len(tensors)
    passed_by = 0
    while high - low > 1 and passed_by <= _PASSED_BY:
        middle = min((low + high) // 2 + passed_by, high - 1)
        try:
            drifts = _drifts(cut_at(model, [tensors[middle][0]]), exact, other, allowed)
        except HastenError:
            passed_by += 1
            continue
        passed_by = 0
        low, high = (low, middle) if drifts else (middle, high)
    if high == len(tensors):
        return ""
    name, node = tensors[high]
    return f"tensor {name}, made by {operator_label(node)}"


def first_noisy(before: Model, after: Model, feeds: Sequence[Arrays], scratch: Path) -> str:
    """Name the first tensor of both graphs that falls below the floor, and its operator.

    Both are run by ONNX Runtime without optimizations, so what a step did to the graph is seen, and
    not what a runtime makes of it. Empty where all tensors that both have are above the floor.
    """
    rounded = _rounded(after.graph)
    common = {name for name, _ in _tensors(after.graph)}
    tensors = {name: node for name, node in _tensors(before.graph) if name in common}
    if not tensors:
        return ""
    noise, signal = (dict.fromkeys(tensors, 0.0) for _ in range(2))
    told = _given(before, list(tensors), feeds, scratch)
    said = _given(after, [rounded.get(name, name) for name in tensors], feeds, scratch)
    for want, have in zip(told, said, strict=True):
        for name in tensors:
            off, size = _apart({name: want[name]}, {name: have[rounded.get(name, name)]})
            noise[name], signal[name] = noise[name] + off, signal[name] + size
    for name, node in tensors.items():
        if signal[name] and noise[name] > noise_limit(0.0) * signal[name]:
            heard = decibels(noise[name] / signal[name])
            return f"tensor {name}, made by {operator_label(node)}: {heard:.1f} dB"
    return ""


def _given(
    model: Model, names: Sequence[str], feeds: Sequence[Arrays], scratch: Path
) -> list[Arrays]:
    """Return what these tensors of a model hold for each feed."""
    lowered = any_runtime(EXACT).lower(cut_at(model, names), scratch)
    with in_worker(EXACT, lowered, Execution(), scratch) as session:
        return [session.run(dict(feed)) for feed in feeds]


def _rounded(graph: onnx.ModelProto) -> dict[str, str]:
    """Return for each tensor that is quantized what its readers see of it, dequantized."""
    codes = {
        node.output[0]: node.input[0]
        for node in graph.graph.node
        if node.op_type == "QuantizeLinear"
    }
    return {
        codes[node.input[0]]: node.output[0]
        for node in graph.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in codes
    }


def cut_at(model: Model, names: Sequence[str]) -> Model:
    """Return the part of a model that computes these float tensors, which are its outputs."""
    import onnx
    from onnx import helper

    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    needed = set(names)
    kept = []
    for node in reversed(model.graph.graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    del graph.graph.node[:]
    graph.graph.node.extend(kept[::-1])
    known = {one.name: one for one in (*model.graph.graph.value_info, *model.graph.graph.output)}
    outputs = [
        known.get(name) or helper.make_tensor_value_info(name, FLOAT, None) for name in names
    ]
    del graph.graph.output[:]
    graph.graph.output.extend(outputs)
    constants = [one for one in model.graph.graph.initializer if one.name in needed]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(constants)
    specs = tuple(TensorSpec(one.name, "float32", _shape(one)) for one in outputs)
    return replace(model, content=graph, signature=Signature(model.signature.inputs, specs))


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in dims)


def _tensors(graph: onnx.ModelProto) -> list[tuple[str, onnx.NodeProto]]:
    """Return the float tensors inside a graph whose shape is known, with the node of each."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(graph).graph
    floats = {
        one.name
        for one in (*inferred.value_info, *inferred.output)
        if one.type.tensor_type.elem_type == FLOAT and one.type.tensor_type.HasField("shape")
    }
    constants = constants_of(graph.graph)
    return [
        (name, node)
        for node in graph.graph.node
        for name in node.output
        if name in floats and name not in constants
    ]


def _drifts(part: Model, exact: Outputs, other: Outputs, allowed: float) -> bool:
    signal = noise = 0.0
    for want, have in zip(exact(part), other(part), strict=True):
        off, size = _apart(want, have)
        noise, signal = noise + off, signal + size
    return noise > allowed**2 * signal


def _apart(want: Mapping[str, np.ndarray], have: Mapping[str, np.ndarray]) -> tuple[float, float]:
    """Summed squares of the difference, and of what varies in the exact one."""
    noise = signal = 0.0
    for name, value in want.items():
        exact, near = value.astype(np.float64), have[name].astype(np.float64)
        if exact.shape != near.shape:
            return np.inf, 1.0
        finite = np.isfinite(exact) & np.isfinite(near)
        noise += float(np.square(exact - near, where=finite, out=np.zeros(exact.shape)).sum())
        known = exact[finite]
        signal += float(np.square(known - known.mean()).sum()) if known.size else 0.0
    return noise, signal
