"""Unstructured pruning: the smallest weights become zeros, and the graph keeps its shape.

It buys bytes, in a file that is compressed, and no time: no runtime here has kernels that skip
scattered zeros on a processor like this one.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from hasten.compress.step import Context, StepConfig, applied
from hasten.errors import OptionError, RefusedError
from hasten.graph import FLOAT, all_nodes, attribute_of

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = [
    "Masks",
    "Sparsify",
    "apply",
    "apply_masks",
    "compressed_bytes",
    "cubic_sparsity",
    "masks",
    "zero_share",
]

#: For each weight by its initializer's name, True where a value is kept; in the weight's shape.
Masks = Mapping[str, npt.NDArray[np.bool_]]

_MATRIX = 2


class Sparsify(StepConfig, frozen=True, tag="sparsify"):
    """Zeros in the weights of convolutions and matrix products, the smallest absolute values first.

    ``scope`` says whether weights compare within their layer or over the whole graph, and
    ``sparsity`` which share of them becomes zero, from 0 up to but not 1. A ``pattern`` such as
    ``2:4`` takes the place of both: of each 4 weights in a row along the input channels at most 2
    are kept (Mishra et al., "Accelerating Sparse Deep Neural Networks", arXiv 2104.08378).
    """

    sparsity: float = 0.5
    scope: Literal["global", "layer"] = "global"
    pattern: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.sparsity < 1:
            raise OptionError(
                expected="a share of zeros from 0 up to but not 1",
                got=str(self.sparsity),
                where="sparsify: sparsity",
            )
        if self.pattern:
            _parsed(self.pattern)


def _parsed(pattern: str) -> tuple[int, int]:
    kept, _, length = pattern.partition(":")
    if not (kept.isdecimal() and length.isdecimal() and 0 < int(kept) < int(length)):
        raise OptionError(
            expected="a pattern N:M with 0 < N < M, as 2:4",
            got=repr(pattern),
            where="sparsify: pattern",
        )
    return int(kept), int(length)


class _Weight(NamedTuple):
    values: npt.NDArray[np.float32]
    #: The axis of the input channels, over which products are summed.
    axis: int


def apply(model: Model, config: Sparsify, context: Context) -> Model:
    """Set weights to zero; RefusedError where the graph has none."""
    del context
    found = masks(model.graph, config)
    if not found:
        raise RefusedError("the graph has no float32 weights of a convolution or matrix product")
    return model.evolve(apply_masks(model.graph, found), model.signature, applied(config))


def masks(graph: onnx.ModelProto, config: Sparsify) -> dict[str, npt.NDArray[np.bool_]]:
    """Return which weights are kept, by the names of their initializers.

    A training loop multiplies its weights by them after each step, with a ``sparsity`` that grows
    as ``cubic_sparsity`` says.
    """
    weights = _weights(graph)
    if config.pattern:
        kept, length = _parsed(config.pattern)
        return {name: _pattern_mask(one, kept, length) for name, one in weights.items()}
    sizes = {name: np.abs(one.values) for name, one in weights.items()}
    if config.scope == "layer":
        return {name: _largest(values, config.sparsity) for name, values in sizes.items()}
    if not sizes:
        return {}
    joined = _largest(np.concatenate([one.reshape(-1) for one in sizes.values()]), config.sparsity)
    parts = np.split(joined, np.cumsum([one.size for one in sizes.values()])[:-1])
    return {
        name: part.reshape(values.shape)
        for (name, values), part in zip(sizes.items(), parts, strict=True)
    }


def _largest(sizes: npt.NDArray[np.float32], sparsity: float) -> npt.NDArray[np.bool_]:
    """Return True for all but the smallest; among equals the first go."""
    kept = np.ones(sizes.size, bool)
    kept[np.argsort(sizes, axis=None, kind="stable")[: round(sparsity * sizes.size)]] = False
    return kept.reshape(sizes.shape)


def _pattern_mask(weight: _Weight, kept: int, length: int) -> npt.NDArray[np.bool_]:
    """Keep the largest ``kept`` of each ``length`` along the axis; what is left over is a row too.

    >>> weight = _Weight(np.array([[4, 1, 3, 2, 5, 7]], np.float32), axis=1)
    >>> _pattern_mask(weight, 2, 4).astype(int).tolist()
    [[1, 0, 1, 0, 1, 1]]
    """
    last = np.moveaxis(np.abs(weight.values), weight.axis, -1)
    padding = [(0, 0)] * (last.ndim - 1) + [(0, -last.shape[-1] % length)]
    rows = np.pad(last, padding, constant_values=-1).reshape(-1, length)
    places = np.argsort(-rows, axis=1, kind="stable")[:, :kept]
    mask = np.zeros(rows.shape, bool)
    np.put_along_axis(mask, places, values=True, axis=1)
    mask = mask.reshape(*last.shape[:-1], -1)[..., : last.shape[-1]]
    return np.moveaxis(mask, -1, weight.axis)


def apply_masks(graph: onnx.ModelProto, found: Masks) -> onnx.ModelProto:
    """Return the graph with zeros where a mask is False."""
    from onnx import numpy_helper

    sparse = type(graph)()
    sparse.CopyFrom(graph)
    for tensor in sparse.graph.initializer:
        if tensor.name in found:
            values = np.where(found[tensor.name], numpy_helper.to_array(tensor), np.float32(0))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return sparse


def cubic_sparsity(step: int, *, begin: int, end: int, final: float, initial: float = 0.0) -> float:
    """Return the share of zeros at a training step: fast at first, while there is most to spare.

    Source: Zhu and Gupta, "To prune, or not to prune", 2017 (arXiv 1710.01878), equation 1.

    >>> [round(cubic_sparsity(at, begin=0, end=4, final=0.64), 2) for at in range(6)]
    [0.0, 0.37, 0.56, 0.63, 0.64, 0.64]
    """
    left = 1 - min(1.0, max(0.0, (step - begin) / max(1, end - begin)))
    return final + (initial - final) * left**3


def zero_share(graph: onnx.ModelProto) -> float:
    """Return the share of zeros among the weights that ``Sparsify`` sets; 0 where there are none.

    It counts float32 weights of convolutions and matrix products, not biases.
    """
    weights = [one.values for one in _weights(graph).values()]
    zeros = sum(values.size - int(np.count_nonzero(values)) for values in weights)
    return zeros / max(1, sum(values.size for values in weights))


def compressed_bytes(model: Model) -> int:
    """Return how many bytes the model's file takes compressed with DEFLATE, as in a zip archive.

    Zeros compress well, so this is where unstructured sparsity shows (zlib at level 9).
    """
    return len(zlib.compress(model.payload, 9))


def _weights(graph: onnx.ModelProto) -> dict[str, _Weight]:
    """Return the float32 constants of rank 2 and more that operators multiply by."""
    from onnx import numpy_helper

    constants = {
        tensor.name: tensor
        for tensor in graph.graph.initializer
        if tensor.data_type == FLOAT and len(tensor.dims) >= _MATRIX
    }
    found: dict[str, _Weight] = {}
    for node in all_nodes(graph):
        for at, name in enumerate(node.input[:2]):
            axis = _input_axis(node, at)
            if axis is not None and name in constants:
                values = numpy_helper.to_array(constants[name])
                found[name] = _Weight(values, axis % values.ndim)
    return found


def _input_axis(node: onnx.NodeProto, at: int) -> int | None:
    """Return the axis of input channels of a node's input; None where it holds no weights."""
    if node.op_type == "MatMul":
        return -1 if at == 0 else -2
    if at == 0 and node.op_type != "Gemm":
        return None
    if node.op_type == "Gemm":
        transposed = attribute_of(node, ("transA", "transB")[at], 0)
        return int((at == 0) != bool(transposed))
    return {"Conv": 1, "ConvTranspose": 0}.get(node.op_type)
