"""What each operator does with channels: ties them, uses them up, passes them on.

To teach an operator, write a function that returns the layouts of its outputs and give it a line
in ``OPERATORS``. Channels that a function neither passes on, ties nor hands to a weight it must
freeze; where it cannot tell, it raises Untraceable, and all that the node touches stay.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.pruning.channels import FIXED, Ids, Layout, Untraceable
from hasten.compress.pruning.reshape import reshaped
from hasten.graph import attribute_of

if TYPE_CHECKING:
    import onnx

    from hasten.compress.pruning.trace import Trace

__all__ = ["DIMS_INPUTS", "OPERATORS", "Operator", "is_depthwise"]

Operator = Callable[["Trace", "onnx.NodeProto"], Sequence[Layout]]

#: Operators that are told the sizes of their output, and by which input.
DIMS_INPUTS = {"Reshape": 1, "Expand": 1, "Resize": 3}
_SPLIT_INPUT_OPSET = 13


def is_depthwise(trace: Trace, node: onnx.NodeProto) -> bool:
    """Whether each input channel of a convolution has a group of its own."""
    groups = int(attribute_of(node, "group", 1))
    weight = trace.shape(node.input[1])
    is_transposed = node.op_type == "ConvTranspose"
    return groups > 1 and (weight[0] == groups if is_transposed else weight[1] == 1)


def _convolution(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = _kept(trace, trace.layout(node.input[0]), {1})
    weight = trace.layout(node.input[1])
    groups = int(attribute_of(node, "group", 1))
    is_transposed = node.op_type == "ConvTranspose"
    consumed, produced = (weight[0], weight[1]) if is_transposed else (weight[1], weight[0])
    _mark(trace, node, produced, consumed)
    if is_depthwise(trace, node):
        out = _depthwise(trace, x[1], weight, groups, is_transposed=is_transposed)
    elif groups == 1:
        trace.channels.tie(x[1], consumed)
        out = produced
    elif is_transposed:
        _tie_groups(trace, consumed, groups)
        trace.channels.tie(x[1], consumed)
        out = None if produced is None else np.tile(produced, groups)
    else:
        _tie_groups(trace, produced, groups)
        trace.channels.tie(x[1], None if consumed is None else np.tile(consumed, groups))
        out = produced
    if len(node.input) > 2 and node.input[2]:  # noqa: PLR2004 - the third input, the bias
        (bias,) = trace.layout(node.input[2])
        trace.channels.tie(out, bias)
    return [(None, out, *[None] * (len(x) - 2))]


def _depthwise(
    trace: Trace, x: Ids | None, weight: Layout, groups: int, *, is_transposed: bool
) -> Ids | None:
    """Tie each channel to all that are made of it."""
    if is_transposed:
        trace.channels.tie(x, weight[0])
        trace.channels.freeze(weight[1])
        per_group = 1 if weight[1] is None else len(weight[1])
        return None if weight[0] is None else np.repeat(weight[0], per_group)
    if weight[0] is not None and x is not None:
        trace.channels.tie(np.repeat(x, len(weight[0]) // groups), weight[0])
    else:
        trace.channels.tie(x, weight[0])
    return weight[0]


def _tie_groups(trace: Trace, ids: Ids | None, groups: int) -> None:
    """Keep the groups of a convolution alike: the same channels go from each."""
    if ids is not None:
        rows = ids.reshape(groups, -1)
        for row in rows[1:]:
            trace.channels.tie(rows[0], row)


def _mark(trace: Trace, node: onnx.NodeProto, produced: Ids | None, consumed: Ids | None) -> None:
    """Note which axis of a weight makes channels and which takes them."""
    if any(name in trace.weights for name in node.input[:2]):
        trace.channels.mark(produced, "producer")
        trace.channels.mark(consumed, "consumer")


def _gemm(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    a, b = trace.layout(node.input[0]), trace.layout(node.input[1])
    a = a[::-1] if attribute_of(node, "transA", 0) else a
    b = b[::-1] if attribute_of(node, "transB", 0) else b
    _mark(trace, node, b[1], b[0])
    trace.channels.tie(a[1], b[0])
    out: Layout = (a[0], b[1])
    if len(node.input) > 2 and node.input[2]:  # noqa: PLR2004 - the third input, the bias
        sizes = (trace.shape(node.output[0]), trace.shape(node.input[2]))
        out = _broadcast(trace, sizes, (out, trace.layout(node.input[2])))
    return [out]


def _matmul(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    a, b = trace.layout(node.input[0]), trace.layout(node.input[1])
    if min(len(a), len(b)) < 2:  # noqa: PLR2004 - a vector has no rows
        raise Untraceable
    if node.input[1] in trace.weights:
        _mark(trace, node, b[-1], b[-2])
    else:
        _mark(trace, node, a[-2], a[-1])
    trace.channels.tie(a[-1], b[-2])
    sizes = (trace.shape(node.input[0])[:-2], trace.shape(node.input[1])[:-2])
    return [(*_broadcast(trace, sizes, (a[:-2], b[:-2])), a[-2], b[-1])]


def _elementwise(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    names = [name for name in node.input if name]
    shapes = [trace.shape(name) for name in names]
    return [_broadcast(trace, shapes, [trace.layout(name) for name in names])]


def _broadcast(
    trace: Trace, shapes: Sequence[Sequence[int | str | None]], layouts: Sequence[Layout]
) -> Layout:
    """Tie what meets, aligned at the last axis; an axis of one meets nothing."""
    rank = max(map(len, shapes))
    out: list[Ids | None] = []
    for back in range(rank, 0, -1):
        met = [
            layout[-back]
            for shape, layout in zip(shapes, layouts, strict=True)
            if len(shape) >= back and shape[-back] != 1
        ]
        for other in met[1:]:
            trace.channels.tie(met[0], other)
        out.append(met[0] if met and all(ids is not None for ids in met) else None)
    return tuple(out)


def _same(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    for name in node.input[1:]:  # limits, ratios: one value each
        trace.freeze(name)
    return [trace.layout(node.input[0])]


def _pooled(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    return [_kept(trace, trace.layout(node.input[0]), {1})]


def _kept(trace: Trace, layout: Layout, axes: set[int]) -> Layout:
    """Return the layout with these axes alone; the others are frozen."""
    for axis, ids in enumerate(layout):
        if axis not in axes:
            trace.channels.freeze(ids)
    return tuple(ids if axis in axes else None for axis, ids in enumerate(layout))


def _batch_norm(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = _kept(trace, trace.layout(node.input[0]), {1})
    for name in node.input[1:]:
        (ids,) = trace.layout(name)
        trace.channels.tie(x[1], ids)
    trace.channels.mark(trace.layout(node.input[1])[0], "norm_scale")
    return [x]


def _layer_norm(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = trace.layout(node.input[0])
    for name in node.input[1:]:
        if name:
            shapes = (trace.shape(node.input[0]), trace.shape(name))
            x = _broadcast(trace, shapes, (x, trace.layout(name)))
    return [x]


def _softmax(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = trace.layout(node.input[0])
    flattens = trace.opset < _SPLIT_INPUT_OPSET  # then all axes from the first one on are one
    axis = int(attribute_of(node, "axis", 1 if flattens else -1)) % len(x)
    normalised = set(range(axis, len(x))) if flattens else {axis}
    return [_kept(trace, x, set(range(len(x))) - normalised)]


def _transpose(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = trace.layout(node.input[0])
    order = attribute_of(node, "perm", list(range(len(x)))[::-1])
    if node.input[0] in trace.weights:
        trace.weights.add(node.output[0])
    return [tuple(x[axis] for axis in order)]


def _concat(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    layouts = [trace.layout(name) for name in node.input]
    along = int(attribute_of(node, "axis", 0)) % len(layouts[0])
    out: list[Ids | None] = []
    for axis in range(len(layouts[0])):
        parts = [layout[axis] for layout in layouts]
        if axis == along:
            sizes = [trace.shape(name)[axis] for name in node.input]
            out.append(_joined(trace, parts, sizes))
            continue
        for other in parts[1:]:
            trace.channels.tie(parts[0], other)
        out.append(parts[0] if all(part is not None for part in parts) else None)
    return [tuple(out)]


def _joined(
    trace: Trace, parts: Sequence[Ids | None], sizes: Sequence[int | str | None]
) -> Ids | None:
    if any(
        ids is None and not isinstance(size, int) for ids, size in zip(parts, sizes, strict=True)
    ):
        for ids in parts:
            trace.channels.freeze(ids)
        return None
    held = [
        np.full(int(size or 0), FIXED) if ids is None else ids
        for ids, size in zip(parts, sizes, strict=True)
    ]
    return None if all(ids is None for ids in parts) else np.concatenate(held)


def _split(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = trace.layout(node.input[0])
    axis = int(attribute_of(node, "axis", 0)) % len(x)
    sizes = [trace.shape(name)[axis] for name in node.output]
    ids = x[axis]
    parts: Sequence[Ids | None] = [None] * len(sizes)
    if ids is not None:
        whole = [size for size in sizes if isinstance(size, int)]
        if len(whole) < len(sizes) or sum(whole) != len(ids) or trace.opset < _SPLIT_INPUT_OPSET:
            raise Untraceable
        parts = np.split(ids, np.cumsum(whole)[:-1])
    return [(*x[:axis], part, *x[axis + 1 :]) for part in parts]


def _reshape(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = trace.layout(node.input[0])
    if node.op_type in DIMS_INPUTS and any(ids is not None for ids in x):
        trace.array(node.input[DIMS_INPUTS[node.op_type]])  # the sizes must be there to be changed
    before, after = trace.shape(node.input[0]), trace.shape(node.output[0])
    return [reshaped(trace.channels, x, before, after)]


def _resized(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    """Axes of the same size before and after pass; an axis of one that grows has no channels."""
    x = trace.layout(node.input[0])
    if attribute_of(node, "axes", None) is not None:
        raise Untraceable
    at = DIMS_INPUTS.get(node.op_type)
    if at is not None and at < len(node.input) and node.input[at]:
        trace.array(node.input[at])
    before, after = trace.shape(node.input[0]), trace.shape(node.output[0])
    out = [None] * (len(after) - len(x)) + list(x)
    sizes = (None,) * (len(after) - len(x)) + before
    same = {axis for axis, size in enumerate(after) if size == sizes[axis]}
    return [_kept(trace, tuple(out), same)]


def _reduced(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    x = trace.layout(node.input[0])
    given = node.input[1] if len(node.input) > 1 else ""
    listed = trace.array(given) if given else attribute_of(node, "axes", None)
    if listed is None or len(listed) == 0:
        raise Untraceable
    axes = {int(axis) % len(x) for axis in listed}
    kept = _kept(trace, x, set(range(len(x))) - axes)
    if attribute_of(node, "keepdims", 1):
        return [kept]
    return [tuple(ids for axis, ids in enumerate(kept) if axis not in axes)]


def _slice(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    """Pass axes that are not cut; of one that is, everything stays."""
    x = trace.layout(node.input[0])
    steps = node.input[4] if len(node.input) > 4 else ""  # noqa: PLR2004 - the fifth input
    if steps and (trace.array(steps) < 0).any():
        raise Untraceable
    before, after = trace.shape(node.input[0]), trace.shape(node.output[0])
    return [_kept(trace, x, {axis for axis, size in enumerate(after) if size == before[axis]})]


def _gather(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    """Put the axes of the indices in the place of the one looked up, of which everything stays."""
    x = trace.layout(node.input[0])
    axis = int(attribute_of(node, "axis", 0)) % len(x)
    kept = _kept(trace, x, set(range(len(x))) - {axis})
    trace.freeze(node.input[1])
    if node.input[0] in trace.weights:  # an embedding
        trace.channels.mark(kept[-1], "producer")
    return [(*kept[:axis], *[None] * len(trace.shape(node.input[1])), *kept[axis + 1 :])]


def _padded(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    """Pass axes that get no padding."""
    x = trace.layout(node.input[0])
    if len(node.input) > 3 and node.input[3]:  # noqa: PLR2004 - the fourth input, some axes
        raise Untraceable
    given = attribute_of(node, "pads", None)
    pads = np.reshape(trace.array(node.input[1]) if given is None else given, (2, -1))
    return [_kept(trace, x, {int(axis) for axis in np.flatnonzero(~pads.any(axis=0))})]


def _sizes(trace: Trace, node: onnx.NodeProto) -> Sequence[Layout]:
    """Tell sizes: true of whatever is left of the channels."""
    return [(None,) * len(trace.shape(node.output[0]))]


_BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "PRelu", "Max", "Min", "Sum", "Mean", "Where"]
_UNARY = [
    "Identity",
    "Dropout",
    "Cast",
    "Relu",
    "LeakyRelu",
    "Elu",
    "Celu",
    "Selu",
    "ThresholdedRelu",
    "Sigmoid",
    "HardSigmoid",
    "Tanh",
    "HardSwish",
    "Mish",
    "Gelu",
    "Swish",
    "Softplus",
    "Softsign",
    "Erf",
    "Exp",
    "Log",
    "Neg",
    "Abs",
    "Sqrt",
    "Reciprocal",
    "Floor",
    "Ceil",
    "Round",
    "Sign",
    "Sin",
    "Cos",
    "Clip",
    "Not",
    "IsNaN",
]
_POOLS = ["MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
_REDUCTIONS = [
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL1",
    "ReduceL2",
    "ReduceSumSquare",
]

OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(("Conv", "ConvTranspose"), _convolution),
    "Gemm": _gemm,
    "MatMul": _matmul,
    **dict.fromkeys(_BINARY, _elementwise),
    **dict.fromkeys(_UNARY, _same),
    **dict.fromkeys(_POOLS, _pooled),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), _batch_norm),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _layer_norm),
    **dict.fromkeys(("Softmax", "LogSoftmax"), _softmax),
    "Transpose": _transpose,
    "Concat": _concat,
    "Split": _split,
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze"), _reshape),
    **dict.fromkeys(("Expand", "Resize", "Upsample"), _resized),
    **dict.fromkeys(_REDUCTIONS, _reduced),
    "Slice": _slice,
    "Gather": _gather,
    "Pad": _padded,
    **dict.fromkeys(("Shape", "Size"), _sizes),
}
