"""What layers multiply their weights with, and its second moments, streamed from the samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from hasten.compress.activations.observation import activations
from hasten.compress.step import Context
from hasten.data import Samples
from hasten.graph import FLOAT, attribute_of

if TYPE_CHECKING:
    import onnx

    from hasten.graph import Model

__all__ = ["Moments", "has_moments", "layer_moments", "outputs_at_patches", "patches", "spread"]

#: Patches taken of one sample: beyond it neighbours say much the same, and cost as much.
_PATCHES = 256
#: Samples taken: beyond these, moments settle no more than time is spent.
_SAMPLES = 128
#: A moment matrix of more columns takes over a gigabyte.
_MAX_COLUMNS = 16_384


class Moments(msgspec.Struct, frozen=True, eq=False):
    """The mean ``E[x]`` of shape [groups, d], and ``E[x x^T]`` of shape [groups, d, d]."""

    mean: Any
    second: Any

    @property
    def covariance(self) -> npt.NDArray[np.float32]:
        """What is left of the second moment once the mean is known."""
        outer = self.mean[:, :, np.newaxis] * self.mean[:, np.newaxis, :]
        return np.asarray(self.second - outer, np.float32)


def layer_moments(model: Model, context: Context) -> dict[str, Moments]:
    """Moments of what each weight of a Conv, Gemm or MatMul is multiplied with, by its name.

    ``x`` are the ``d`` inputs that one output is a weighted sum of: for a convolution a patch, in
    the order of the weight's axes [in / groups, kernel]. Layers that share a weight share its
    moments. At most 128 samples are read, and layers of more than 16,384 inputs are left out.
    """
    constants = {tensor.name: tensor for tensor in model.graph.graph.initializer}
    layers = [node for node in model.graph.graph.node if has_moments(node, constants)]
    found: dict[str, _Sums] = {node.input[1]: _Sums() for node in layers}
    reads = list(dict.fromkeys(node.input[0] for node in layers))
    few = replace(context, calibration=spread(context.calibration, _SAMPLES))
    for values in activations(model, reads, few, "reading layers") if layers else ():
        for node in layers:
            shape = tuple(constants[node.input[1]].dims)
            found[node.input[1]].add(patches(node, values[node.input[0]], shape))
    return {name: sums.moments for name, sums in found.items()}


def spread(samples: Samples | None, count: int) -> Samples | None:
    """At most so many of the samples, evenly spread; None where there are none."""
    if samples is None or len(samples) <= count:
        return samples
    return samples.select(np.linspace(0, len(samples) - 1, count).astype(int).tolist())


class _Sums:
    """Running sums over patches."""

    def __init__(self) -> None:
        self._count = 0
        self._first: Any = np.float32(0)
        self._second: Any = np.float32(0)

    def add(self, taken: npt.NDArray[np.float32]) -> None:
        """Take in patches of shape [groups, patches, d]."""
        self._count += taken.shape[1]
        self._first = self._first + taken.sum(axis=1)
        self._second = self._second + taken.transpose(0, 2, 1) @ taken

    @property
    def moments(self) -> Moments:
        count = np.float32(max(1, self._count))
        return Moments(self._first / count, self._second / count)


def patches(
    node: onnx.NodeProto, value: npt.NDArray[Any], weight: Sequence[int], count: int = _PATCHES
) -> npt.NDArray[np.float32]:
    """What a layer multiplies its weights with, of shape [groups, patches, d].

    Of a large image an even grid of at most ``count`` places is taken.
    """
    if node.op_type != "Conv":
        return np.asarray(value.reshape(1, -1, value.shape[-1]), np.float32)
    rank = len(weight) - 2
    strides, dilations = (attribute_of(node, name, [1] * rank) for name in ("strides", "dilations"))
    spans = [(size - 1) * by + 1 for size, by in zip(weight[2:], dilations, strict=True)]
    before, after = _padding(node, value.shape[2:], spans, strides)
    padded = np.pad(value, [(0, 0), (0, 0), *zip(before, after, strict=True)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, spans, tuple(range(2, 2 + rank)))
    places = [(s - 1) // by + 1 for s, by in zip(windows.shape[2 : 2 + rank], strides, strict=True)]
    thin = _thinning(places, value.shape[0], count)
    steps = [slice(None, None, stride * thin) for stride in strides]
    holes = [slice(None, None, by) for by in dilations]
    chosen = windows[(slice(None), slice(None), *steps, *holes)]
    groups = value.shape[1] // weight[1]
    split = chosen.reshape(chosen.shape[0], groups, weight[1], *chosen.shape[2:])
    kernel = tuple(range(3 + rank, 3 + 2 * rank))
    ordered = split.transpose(1, 0, *range(3, 3 + rank), 2, *kernel)
    return np.ascontiguousarray(ordered.reshape(groups, -1, math.prod(weight[1:])), np.float32)


def outputs_at_patches(
    node: onnx.NodeProto, value: npt.NDArray[Any], count: int = _PATCHES
) -> npt.NDArray[np.float32]:
    """What a layer gives at the places of ``patches``, of shape [patches, outputs]."""
    if node.op_type != "Conv":
        return np.asarray(value.reshape(-1, value.shape[-1]), np.float32)
    thin = _thinning(value.shape[2:], value.shape[0], count)
    chosen = value[(slice(None), slice(None), *[slice(None, None, thin)] * (value.ndim - 2))]
    return np.asarray(np.moveaxis(chosen, 1, -1).reshape(-1, value.shape[1]), np.float32)


def _thinning(places: Sequence[int], samples: int, count: int) -> int:
    """Of how many places along an axis one is taken."""
    every: float = (math.prod(places) * samples / count) ** (1 / len(places))
    return max(1, math.ceil(every))


def _padding(
    node: onnx.NodeProto, sizes: Sequence[int], spans: Sequence[int], strides: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Zeros before and after each spatial axis; SAME is worked out from the sizes."""
    mode = attribute_of(node, "auto_pad", b"NOTSET")
    rank = len(sizes)
    if mode.startswith(b"SAME"):
        totals = [
            max(0, (math.ceil(size / stride) - 1) * stride + span - size)
            for size, span, stride in zip(sizes, spans, strides, strict=True)
        ]
        less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
        return (less, more) if mode == b"SAME_UPPER" else (more, less)
    if mode == b"VALID":
        return [0] * rank, [0] * rank
    given = list(attribute_of(node, "pads", [0] * 2 * rank))
    return given[:rank], given[rank:]


def has_moments(node: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    """Whether a node is a layer with a constant float weight whose patches can be taken."""
    tensor = constants.get(node.input[1]) if len(node.input) > 1 else None
    if tensor is None or tensor.data_type != FLOAT or node.input[0] in constants:
        return False
    if node.op_type == "Gemm":
        return not attribute_of(node, "transA", 0)
    matrix = node.op_type == "MatMul" and len(tensor.dims) == 2  # noqa: PLR2004 - a matrix
    small = math.prod(tensor.dims[1:]) <= _MAX_COLUMNS
    return matrix or (node.op_type == "Conv" and small)
