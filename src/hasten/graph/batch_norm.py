"""Batch norms folded into the weights before them, as they have to be before these are rounded."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.graph.constants import drop_unused
from hasten.graph.operators import attribute_of
from hasten.graph.parameter_names import (
    ParameterNames,
    parameter_names,
    with_parameter_names,
)

if TYPE_CHECKING:
    import onnx

    from hasten.graph.model import Model

__all__ = ["fold_batch_norms", "without_batch_norms"]

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


def without_batch_norms(model: Model) -> Model:
    """Return the model with its batch norms folded; itself where there is nothing to fold."""
    folded = fold_batch_norms(model.graph)
    return model if folded is model.graph else replace(model, content=folded)


def fold_batch_norms(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with each batch norm in the convolution or matrix product before it.

    The function stays the same. The weight keeps its name, and the bias has that of the batch
    norm's; a layer that stands in several places stays one. A batch norm after something else, or
    after a result that is read elsewhere too, stays where it is; a graph without any is returned
    itself.
    """
    pairs = _pairs(graph.graph)
    if not pairs:
        return graph
    folded = type(graph)()
    folded.CopyFrom(graph)
    pairs = _pairs(folded.graph)
    constants = {tensor.name: tensor for tensor in folded.graph.initializer}
    named = _names(folded.graph, pairs)
    made: dict[str, npt.NDArray[np.float32]] = {}
    for pair in pairs:
        weight, bias = named[pair.key]
        if weight not in made:
            made[weight], made[bias] = _folded(pair, constants)
    known = _known(parameter_names(graph), pairs, named)
    for pair in pairs:
        pair.linear.input[1:] = named[pair.key]
        pair.linear.output[0] = pair.norm.output[0]
        folded.graph.node.remove(pair.norm)
    _hold(folded.graph, made)
    drop_unused(folded.graph)
    # A batch norm behind one that is gone may be folded as well.
    return fold_batch_norms(with_parameter_names(folded, known))


@dataclass(frozen=True, eq=False)
class _Pair:
    """A linear node and the batch norm that alone reads what it makes."""

    linear: onnx.NodeProto
    norm: onnx.NodeProto

    @property
    def key(self) -> tuple[Any, ...]:
        """All that decides the folded constants."""
        layout = (attribute_of(self.linear, one, default) for one, default in _LAYOUT.items())
        return (
            *self.linear.input[1:],
            *self.norm.input[1:],
            _epsilon(self.norm),
            self.linear.op_type,
            *layout,
        )


#: What else than constants says how a weight is scaled by channel.
_LAYOUT = {"transB": 0, "group": 1}


def _pairs(graph: onnx.GraphProto) -> list[_Pair]:
    """Return the nodes that can be folded."""
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    constants = {tensor.name for tensor in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    return [
        _Pair(makers[norm.input[0]], norm)
        for norm in graph.node
        if norm.op_type == "BatchNormalization"
        and norm.input[0] in makers
        and readers[norm.input[0]] == 1
        and _foldable(makers[norm.input[0]], norm, constants)
    ]


def _foldable(linear: onnx.NodeProto, norm: onnx.NodeProto, constants: set[str]) -> bool:
    scaled = [attribute_of(linear, name, 1.0) for name in ("alpha", "beta")]
    wanted = [*norm.input[1:], *(name for name in linear.input[1:] if name)]
    return (
        linear.op_type in _LINEAR
        and all(value == 1.0 for value in scaled)
        and all(name in constants for name in wanted)
        and len(norm.output) == 1
    )


def _epsilon(norm: onnx.NodeProto) -> float:
    return float(np.float32(attribute_of(norm, "epsilon", 1e-5)))


def _names(graph: onnx.GraphProto, pairs: list[_Pair]) -> dict[tuple[Any, ...], tuple[str, str]]:
    """Return the names of the folded weight and bias of each pair.

    They are those of the weight and of the batch norm's bias, unless something else reads these:
    what was a parameter before still is that one.
    """
    readers = Counter(name for node in graph.node for name in node.input)
    readers.update(output.name for output in graph.output)
    times = Counter(pair.key for pair in pairs)
    found: dict[tuple[Any, ...], tuple[str, str]] = {}
    for pair in pairs:
        if pair.key in found:
            continue
        weight, bias, made = pair.linear.input[1], pair.norm.input[2], pair.norm.output[0]
        found[pair.key] = (
            weight if readers[weight] == times[pair.key] else f"{made}_weight",
            bias if readers[bias] == times[pair.key] else f"{made}_bias",
        )
    return found


def _known(
    names: ParameterNames | None,
    pairs: list[_Pair],
    named: dict[tuple[Any, ...], tuple[str, str]],
) -> ParameterNames | None:
    """Return what is known of the parameters, with the folded ones that have names of their own."""
    if names is None:
        return None
    trained, fixed = dict.fromkeys(names.trained), dict.fromkeys(names.fixed)
    for pair in pairs:
        before = pair.linear.input[1], pair.norm.input[2]
        for old, new in zip(before, named[pair.key], strict=True):
            if old != new:
                (trained if old in names.trained else fixed)[new] = None
    return ParameterNames(tuple(trained), tuple(fixed))


def _hold(graph: onnx.GraphProto, made: dict[str, npt.NDArray[np.float32]]) -> None:
    """Put constants into a graph, in place of those of the same names."""
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if tensor.name in made:
            tensor.CopyFrom(numpy_helper.from_array(made.pop(tensor.name), tensor.name))
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())


def _folded(
    pair: _Pair, constants: dict[str, onnx.TensorProto]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return weight and bias whose output channels are scaled and shifted as the norm does."""
    from onnx import numpy_helper

    def values(name: str) -> npt.NDArray[np.float64]:
        return np.asarray(numpy_helper.to_array(constants[name]), np.float64)

    linear, norm = pair.linear, pair.norm
    gamma, beta, mean, variance = (values(name) for name in norm.input[1:])
    factor = gamma / np.sqrt(variance + _epsilon(norm))
    has_bias = len(linear.input) > 2 and linear.input[2] != ""  # noqa: PLR2004 - the third input
    bias = values(linear.input[2]) if has_bias else np.zeros(1)
    weight = _scaled(linear, values(linear.input[1]), factor)
    return weight.astype(np.float32), ((bias - mean) * factor + beta).astype(np.float32)


def _scaled(
    linear: onnx.NodeProto, weight: npt.NDArray[Any], factor: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    if linear.op_type == "Gemm":
        scaled = weight * (factor[:, None] if attribute_of(linear, "transB", 0) else factor)
    elif linear.op_type == "Conv":
        scaled = weight * factor.reshape(-1, *[1] * (weight.ndim - 1))
    else:  # [in, out / groups, ...], and each group of inputs has outputs of its own
        groups = attribute_of(linear, "group", 1)
        by_group = factor.reshape(groups, -1).repeat(weight.shape[0] // groups, axis=0)
        scaled = weight * by_group.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    return np.asarray(scaled, np.float64)
