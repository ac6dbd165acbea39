"""Selecting values, surrounding them, and making new ones."""

from __future__ import annotations

import torch
from torch.nn import functional as f

from hasten.train.operators.table import Node, Operator, Refusal, integers

__all__ = ["OPERATORS", "REFUSALS", "torch_dtypes"]


def torch_dtypes() -> dict[int, torch.dtype]:
    """Torch's dtype for each of ONNX's that it has, by ONNX's number."""
    from onnx import TensorProto

    return {
        TensorProto.FLOAT: torch.float32,
        TensorProto.UINT8: torch.uint8,
        TensorProto.INT8: torch.int8,
        TensorProto.INT16: torch.int16,
        TensorProto.INT32: torch.int32,
        TensorProto.INT64: torch.int64,
        TensorProto.BOOL: torch.bool,
        TensorProto.FLOAT16: torch.float16,
        TensorProto.DOUBLE: torch.float64,
        TensorProto.BFLOAT16: torch.bfloat16,
    }


def _cast(node: Node, x: torch.Tensor) -> torch.Tensor:
    return x.to(torch_dtypes()[node.integer("to")])


def _refuse_dtype(node: Node) -> str:
    known = node.integer("to") in torch_dtypes()
    return "" if known else "it casts to a dtype that torch does not have"


def _constant(node: Node) -> torch.Tensor:
    """Return a number or a list of numbers; tensors are constants of the module."""
    (value,) = node.attributes.values()
    number = value[0] if isinstance(value, list) else value
    dtype = torch.float32 if isinstance(number, float) else torch.int64
    return torch.tensor(value, dtype=dtype)


def _refuse_constant(node: Node) -> str:
    known = {"value_float", "value_floats", "value_int", "value_ints"}
    return "" if set(node.attributes) <= known else "it is neither a tensor nor numbers"


def _constant_of_shape(node: Node, shape: torch.Tensor) -> torch.Tensor:
    from onnx import numpy_helper

    value = node.attributes.get("value")
    if value is None:
        return torch.zeros(integers(shape))
    array = numpy_helper.to_array(value)
    return torch.full(integers(shape), array.item(), dtype=torch.from_numpy(array.copy()).dtype)


def _dropout(
    node: Node,
    x: torch.Tensor,
    ratio: torch.Tensor | None = None,
    training: torch.Tensor | None = None,
) -> torch.Tensor:
    """Drop values in training: of the module, not of the graph, which was exported for use."""
    del training
    share = ratio.item() if ratio is not None else node.number("ratio", 0.5)
    return f.dropout(x, float(share), training=node.mode.training)


def _refuse_mask(node: Node) -> str:
    return "its mask is asked for" if len(node.proto.output) > 1 else ""


def _gather(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis") % max(x.ndim, 1)
    size = x.shape[axis]
    at = torch.where(indices < 0, indices + size, indices).to(x.device, torch.int64)
    taken = x.index_select(axis, at.reshape(-1))
    return taken.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def _gather_elements(node: Node, x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
    axis = node.integer("axis") % x.ndim
    at = torch.where(indices < 0, indices + x.shape[axis], indices).to(x.device, torch.int64)
    return torch.gather(x, axis, at)


def _pad(
    node: Node,
    x: torch.Tensor,
    pads: torch.Tensor | None = None,
    value: torch.Tensor | None = None,
    axes: torch.Tensor | None = None,
) -> torch.Tensor:
    given = integers(pads, node.integers("pads", []))
    over = [axis % x.ndim for axis in integers(axes, range(x.ndim))]
    before, after = [0] * x.ndim, [0] * x.ndim
    for axis, one, other in zip(over, given[: len(over)], given[len(over) :], strict=True):
        before[axis], after[axis] = one, other
    mode = node.text("mode", "constant")
    if mode != "constant":
        return _pad_with_own(x, before, after, mode)
    fill = value.item() if value is not None else node.number("value", 0.0)
    sides = [side for axis in reversed(range(x.ndim)) for side in (before[axis], after[axis])]
    return f.pad(x, sides, value=fill)


def _pad_with_own(x: torch.Tensor, before: list[int], after: list[int], mode: str) -> torch.Tensor:
    """Repeat, mirror or wrap values axis by axis: torch's own does it for the last axes alone."""
    for axis, (one, other) in enumerate(zip(before, after, strict=True)):
        if not one and not other:
            continue
        size = x.shape[axis]
        at = torch.arange(-one, size + other)
        if mode == "edge":
            at = at.clamp(0, size - 1)
        elif mode == "wrap":
            at = at % size
        else:
            period = max(2 * (size - 1), 1)
            at = (at % period).where(at % period < size, period - at % period)
        x = x.index_select(axis, at.to(x.device))
    return x


def _range(
    node: Node, start: torch.Tensor, limit: torch.Tensor, delta: torch.Tensor
) -> torch.Tensor:
    del node
    return torch.arange(start.item(), limit.item(), delta.item(), dtype=start.dtype)


def _slice(
    node: Node,
    x: torch.Tensor,
    starts: torch.Tensor | None = None,
    ends: torch.Tensor | None = None,
    axes: torch.Tensor | None = None,
    steps: torch.Tensor | None = None,
) -> torch.Tensor:
    begins = integers(starts, node.integers("starts", []))
    stops = integers(ends, node.integers("ends", []))
    over = integers(axes, node.integers("axes", range(len(begins))))
    strides = integers(steps, [1] * len(begins))
    for axis, start, stop, step in zip(over, begins, stops, strides, strict=True):
        size = x.shape[axis]
        if step > 0:
            chosen = slice(start, stop, step).indices(size)
            x = x[(slice(None),) * (axis % x.ndim) + (slice(*chosen),)]
        else:  # torch has no negative steps
            at = range(size)[slice(start, None if stop < -size else stop, step)]
            x = x.index_select(axis, torch.tensor(list(at), dtype=torch.int64, device=x.device))
    return x


def _trilu(node: Node, x: torch.Tensor, diagonal: torch.Tensor | None = None) -> torch.Tensor:
    at = int(diagonal.item()) if diagonal is not None else 0
    return torch.triu(x, at) if node.integer("upper", 1) else torch.tril(x, at)


OPERATORS: dict[str, Operator] = {
    "Cast": _cast,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Dropout": _dropout,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "Pad": _pad,
    "Range": _range,
    "Slice": _slice,
    "Trilu": _trilu,
}

REFUSALS: dict[str, Refusal] = {
    "Cast": _refuse_dtype,
    "Constant": _refuse_constant,
    "Dropout": _refuse_mask,
}
