"""Weights solved anew after channels went: what is left gives what the whole layer gave.

Layer by layer, in the order of the graph, the weights and the bias are found that bring the outputs
nearest to those of the model before, from what the layers pruned so far make of the samples.

Source: He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural Networks", ICCV 2017
(arXiv 1707.06168), the second step, with the asymmetric inputs of its section 3.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from hasten.compress.activations.layer_inputs import (
    has_moments,
    outputs_at_patches,
    patches,
    spread,
)
from hasten.compress.activations.observation import activations
from hasten.compress.pruning.channels import FIXED, Ids, Untraceable
from hasten.compress.pruning.groups import ChannelMap
from hasten.compress.step import Context
from hasten.graph import Model, attribute_of
from hasten.progress import Quiet

if TYPE_CHECKING:
    import onnx

__all__ = ["reconstructed"]

_Floats = npt.NDArray[np.float64]

#: Samples that are run: each gives up to 256 patches a layer.
_SAMPLES = 64
#: Pulls towards the weights that were there, as a share of the mean variance of the inputs: what
#: the samples say nothing of stays as it is.
_RIDGE = 1e-2
#: What the whole model gave is kept of so many layers at once as this has room for.
_KEPT_BYTES = 256 * 1024**2
_BIAS = 2


def reconstructed(
    graph: onnx.ModelProto,
    model: Model,
    found: ChannelMap,
    keep: Mapping[str, Sequence[int] | Ids],
    context: Context,
) -> onnx.ModelProto:
    """Return the pruned graph with weights that give what the model gave, as nearly as they can.

    ``graph`` is what ``pruned(found, keep)`` made of the model. At most 64 calibration samples are
    read. Layers that share a weight, or whose bias cannot be told apart, keep theirs. Raises
    RefusedError where there are no samples.
    """
    import onnx

    few = replace(context, calibration=spread(context.calibration, _SAMPLES), progress=Quiet())
    gone = found.gone(keep)
    written = onnx.ModelProto()
    written.CopyFrom(graph)
    layers = [
        _Layer(node, left)
        for node in _layers(written)
        if (left := _outputs_left(found, node, gone)) is not None
    ]
    with context.progress.stage("solving weights anew", len(layers)) as advance:
        for layer, wanted in zip(layers, _wanted(layers, model, few), strict=True):
            now = replace(model, content=written)
            _solve(written, layer.node, _sums(layer.node, wanted, now, few))
            advance(1)
    return written


class _Layer(NamedTuple):
    """A node of the pruned graph, and which outputs of the whole layer are left in it."""

    node: onnx.NodeProto
    left: npt.NDArray[np.int64]


def _layers(graph: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield the layers whose weights and bias are theirs alone."""
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    uses = Counter(name for node in graph.graph.node for name in node.input)
    for node in graph.graph.node:
        if not has_moments(node, constants) or uses[node.input[1]] > 1:
            continue
        bias = node.input[_BIAS] if len(node.input) > _BIAS else ""
        scaled = any(a.name in {"alpha", "beta"} and a.f != 1.0 for a in node.attribute)
        if scaled or (bias and (uses[bias] > 1 or bias not in constants)):
            continue
        if node.op_type == "Gemm" and bias and len(constants[bias].dims) != 1:
            continue
        yield node


def _outputs_left(
    found: ChannelMap, node: onnx.NodeProto, gone: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64] | None:
    """Return which outputs of the whole layer are left; None where it is not known."""
    try:
        layout = found.trace.layout(node.output[0])
        shape = found.trace.shape(node.output[0])
    except Untraceable:
        return None
    axis = 1 if node.op_type == "Conv" else len(shape) - 1
    ids, size = layout[axis], shape[axis]
    if ids is None:
        return np.arange(size) if isinstance(size, int) else None
    return np.flatnonzero((ids == FIXED) | ~gone[np.maximum(ids, 0)])


class _Sums:
    """Moments of a layer's inputs x [groups, d] and wanted outputs y [groups, outputs]."""

    def __init__(self) -> None:
        self._count = 0
        self._x: Any = 0.0
        self._y: Any = 0.0
        self._xx: Any = 0.0
        self._yx: Any = 0.0

    def add(self, taken: npt.NDArray[np.float32], wanted: npt.NDArray[np.float32]) -> None:
        """Take in x [groups, patches, d] and y [patches, groups * outputs]."""
        x = taken.astype(np.float64)
        y = wanted.astype(np.float64).reshape(len(wanted), len(x), -1).transpose(1, 0, 2)
        self._count += x.shape[1]
        self._x += x.sum(axis=1)
        self._y += y.sum(axis=1)
        self._xx += x.transpose(0, 2, 1) @ x
        self._yx += y.transpose(0, 2, 1) @ x

    def solution(self, before: _Floats, *, biased: bool) -> tuple[_Floats, _Floats]:
        """Return weights [groups, outputs, d] and biases [groups, outputs]; 0 unless biased."""
        x, y, xx, yx = (one / self._count for one in (self._x, self._y, self._xx, self._yx))
        if biased:
            xx = xx - x[:, :, np.newaxis] * x[:, np.newaxis, :]
            yx = yx - y[:, :, np.newaxis] * x[:, np.newaxis, :]
        size = xx.shape[1]
        ridge = _RIDGE * np.trace(xx, axis1=1, axis2=2) / size + np.finfo(np.float64).tiny
        stiff = xx + ridge[:, np.newaxis, np.newaxis] * np.eye(size)
        missing = yx - before @ xx
        weights = before + np.linalg.solve(stiff, missing.transpose(0, 2, 1)).transpose(0, 2, 1)
        biases = y - np.einsum("god,gd->go", weights, x) if biased else np.zeros_like(y)
        return weights, biases


def _wanted(
    layers: Sequence[_Layer], whole: Model, context: Context
) -> Iterator[list[npt.NDArray[np.float32]]]:
    """Yield for each layer what the whole model gave at its patches, batch by batch.

    The whole model is run again only once the layers that there was room for are through.
    """
    rest = list(layers)
    while rest:
        kept: list[list[npt.NDArray[np.float32]]] = [[] for _ in rest]
        kept_bytes = 0
        for values in activations(whole, [node.output[0] for node, _ in rest], context):
            for found, (node, left) in zip(kept, rest, strict=False):
                found.append(outputs_at_patches(node, values[node.output[0]])[:, left])
                kept_bytes += found[-1].nbytes
            while kept_bytes > _KEPT_BYTES and len(kept) > 1:
                kept_bytes -= sum(one.nbytes for one in kept.pop())
        yield from kept
        del rest[: len(kept)]


def _sums(
    node: onnx.NodeProto,
    wanted: Sequence[npt.NDArray[np.float32]],
    now: Model,
    context: Context,
) -> _Sums:
    """Run the pruned model: what reaches the layer now, beside what it is to give."""
    weights = now.graph.graph.initializer
    shape = next(tuple(one.dims) for one in weights if one.name == node.input[1])
    sums = _Sums()
    read = node.input[0]
    for here, there in zip(activations(now, [read], context), wanted, strict=True):
        sums.add(patches(node, here[read], shape), there)
    return sums


def _solve(graph: onnx.ModelProto, node: onnx.NodeProto, sums: _Sums) -> None:
    """Write the weights and the bias that solve a layer, in place."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    old = numpy_helper.to_array(constants[node.input[1]]).astype(np.float64)
    turned = node.op_type == "MatMul" or (
        node.op_type == "Gemm" and not attribute_of(node, "transB", 0)
    )
    rows = old.T if turned else old
    groups = 1
    if node.op_type == "Conv":
        groups = attribute_of(node, "group", 1)
    before = rows.reshape(groups, rows.shape[0] // groups, -1)
    weights, biases = sums.solution(before, biased=node.op_type != "MatMul")
    solved = weights.reshape(rows.shape)
    _put(graph, node.input[1], solved.T if turned else solved)
    if node.op_type != "MatMul":
        if len(node.input) <= _BIAS or not node.input[_BIAS]:
            del node.input[_BIAS:]
            node.input.append(f"{node.output[0]}_bias")
        _put(graph, node.input[_BIAS], biases.reshape(-1))


def _put(graph: onnx.ModelProto, name: str, values: _Floats) -> None:
    from onnx import numpy_helper

    tensor = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
    for old in graph.graph.initializer:
        if old.name == name:
            old.CopyFrom(tensor)
            return
    graph.graph.initializer.append(tensor)
