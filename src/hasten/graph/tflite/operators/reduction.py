"""Reductions over axes, the place of the largest, and running sums."""

from __future__ import annotations

import numpy as np
from onnx import helper

from hasten.graph.tflite import layout
from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS"]


_TRUTHS = {"ReduceMax": "ReduceSum", "ReduceMin": "ReduceProd", "ReduceProd": "ReduceProd"}


def _reduction(op_type: str) -> Importing:
    """The axes are a constant; an empty list of them leaves the value as it is."""

    def build(op: Operator, to: Builder) -> None:
        data, out = op.input(0), op.outputs[0]
        axes = _axes(op, to)
        keep = bool(op.option("KeepDims", default=False))
        perm = to.perm(data)
        if op_type == "ReduceMean" and sorted(axes) == [1, 2] and len(perm) == 4:
            _global_mean(op, to, keep=keep)
            return
        name, kind = to.read(data, perm), op_type
        truth = to.dtype(data).kind == "b"
        if truth:  # which ONNX reduces from opset 20 on; of nothing, any is false and all is true
            name, kind = to.emit("Cast", [name], to=_onnx(np.int32)), _TRUTHS[op_type]
        places = sorted(perm.index(axis) for axis in axes)
        made = to.emit(kind, [name, to.longs(*places)], keepdims=int(keep), noop_with_empty_axes=1)
        if truth:
            made = to.emit("Cast", [made], to=_onnx(np.bool_))
        to.bind(out, made, perm if keep else layout.without(perm, axes))

    return build


def _axes(op: Operator, to: Builder) -> list[int]:
    rank = to.rank(op.input(0))
    return sorted({to.axis(axis, rank) for axis in to.ints(op.input(1), "axes")})


def _global_mean(op: Operator, to: Builder, *, keep: bool) -> None:
    """The mean over all of an image: an operator that runtimes have in integers."""
    out, order = op.outputs[0], layout.channels_second(4)
    made = to.emit("GlobalAveragePool", [to.read(op.input(0), order)])
    if keep:
        to.bind(out, made, order)
        return
    to.bind(out, to.emit("Flatten", [to.requantized(made, out)]))


def _arg(op_type: str) -> Importing:
    """The first place where there are several."""

    def build(op: Operator, to: Builder) -> None:
        data, out = op.input(0), op.outputs[0]
        perm = to.perm(data)
        (axis, *_) = to.ints(op.input(1), "axis") or [0]
        axis = to.axis(axis, len(perm))
        found = to.emit(op_type, [to.read(data, perm)], axis=perm.index(axis), keepdims=0)
        to.bind(out, _as(to, found, out), layout.without(perm, [axis]))

    return build


def _as(to: Builder, name: str, out: int) -> str:
    """Places, which ONNX counts in int64, as the file has them."""
    dtype = to.dtype(out)
    return name if dtype == np.int64 else to.emit("Cast", [name], to=_onnx(dtype))


def _onnx(dtype: type[np.generic] | np.dtype[np.generic]) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _cumsum(op: Operator, to: Builder) -> None:
    """Along one axis."""
    data = op.input(0)
    perm = to.perm(data)
    (axis, *_) = to.ints(op.input(1), "axis") or [0]
    made = to.emit(
        "CumSum",
        [to.read(data, perm), to.number(perm.index(to.axis(axis, len(perm))), np.int64)],
        exclusive=int(op.option("Exclusive", default=False)),
        reverse=int(op.option("Reverse", default=False)),
    )
    to.bind(op.outputs[0], made, perm)


def _top_k(op: Operator, to: Builder) -> None:
    """Of the last axis, the largest first, and where they were."""
    data = op.input(0)
    count = to.ints(op.input(1), "k")
    if len(count) != 1 or len(op.outputs) != 2:
        raise Unsupported(f"asks for {count} of the largest")
    values, places = to.emit("TopK", [to.read(data), to.longs(*count)], 2, axis=-1)
    to.bind(op.outputs[0], values)
    to.bind(op.outputs[1], _as(to, places, op.outputs[1]))


OPERATORS: dict[str, Importing] = {
    "ARG_MAX": _arg("ArgMax"),
    "ARG_MIN": _arg("ArgMin"),
    "CUMSUM": _cumsum,
    "MEAN": _reduction("ReduceMean"),
    "REDUCE_ALL": _reduction("ReduceMin"),
    "REDUCE_ANY": _reduction("ReduceMax"),
    "REDUCE_MAX": _reduction("ReduceMax"),
    "REDUCE_MIN": _reduction("ReduceMin"),
    "REDUCE_PROD": _reduction("ReduceProd"),
    "SUM": _reduction("ReduceSum"),
    "TOPK_V2": _top_k,
}
