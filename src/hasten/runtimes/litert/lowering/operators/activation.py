"""Activations: one operand, element by element, and softmax over one axis."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Quantization
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS", "unary"]

#: Kinds whose int8 kernels write one scale only (TFLite's int8 quantization specification).
_FIXED = {
    "LOGISTIC": Quantization.of(1 / 256, -128),
    "SOFTMAX": Quantization.of(1 / 256, -128),
    "TANH": Quantization.of(1 / 128, 0),
}
#: Kinds whose int8 kernels read one scale and write another.
_RESCALING = frozenset({"RELU", "RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "HARD_SWISH"})

#: Bounds of the clips that are builtin operators.
_CLIPS = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}


def unary(kind: str) -> Lowering:
    """An operator of one operand, of any rank and in any order of axes."""

    def lower(node: Node, to: Builder) -> None:
        to.bind_value(node.outputs[0], _apply(to, kind, to.value(node.input(0)), node))

    return lower


def _apply(to: Builder, kind: str, value: Value, node: Node, **options: float | bool) -> Value:
    """One operator on one operand, in integers where the kernel has that."""
    form = to.target(node.outputs[0], value)
    if form is not None and kind in _FIXED and form.dtype == np.int8:
        form = Target(_FIXED[kind], form.dtype)
    elif form is not None and kind not in _RESCALING:
        form = None
    if form is None:
        value = to.real(value)
    made = to.emit(
        kind,
        [value.tensor],
        value.tensor.shape,
        FLOAT if form is None and value.dtype == FLOAT else (form.dtype if form else value.dtype),
        quantization=None if form is None else form.quantization,
        options=options,
    )
    return Value(made, value.perm, node.dtype)


def _clip(node: Node, to: Builder) -> None:
    """A builtin operator for the usual bounds; else MAXIMUM and MINIMUM."""
    value = to.value(node.input(0))
    low = _bound(node, to, "min", 1, -np.inf)
    high = _bound(node, to, "max", 2, np.inf)
    kind = _CLIPS.get((low, high)) if value.dtype == FLOAT else None
    if kind is not None:
        to.bind_value(node.outputs[0], _apply(to, kind, value, node))
        return
    value = to.real(value)
    if low > high:  # ONNX: then every element is the upper bound
        low = -np.inf
    for bound, name in ((low, "MAXIMUM"), (high, "MINIMUM")):
        if np.isinf(bound):
            continue
        limit = to.constant(np.array(bound, value.dtype))
        made = to.emit(name, [value.tensor, limit], value.tensor.shape, value.dtype)
        value = Value(made, value.perm, value.dtype)
    to.bind_value(node.outputs[0], value)


def _bound(node: Node, to: Builder, name: str, at: int, default: float) -> float:
    given = node.attribute(name)  # before opset 11
    if given is not None:
        return float(given)
    return float(to.require(node.input(at), name).item()) if node.input(at) else default


def _leaky_relu(node: Node, to: Builder) -> None:
    """The slope is an option."""
    alpha = node.attribute("alpha", 0.01)
    value = to.value(node.input(0))
    to.bind_value(node.outputs[0], _apply(to, "LEAKY_RELU", value, node, alpha=alpha))


def _softmax(kind: str) -> Lowering:
    """TFLite takes it over the last stored axis."""

    def lower(node: Node, to: Builder) -> None:
        value = to.value(node.input(0))
        if node.opset < 13:
            _flat(node, to, kind, value)
            return
        options = {"beta": 1.0} if kind == "SOFTMAX" else {}
        axis = node.attribute("axis", -1) % value.rank
        order = (*(one for one in value.perm if one != axis), axis)
        moved = Value(to.stored(value, order), order, value.dtype)
        to.bind_value(node.outputs[0], _apply(to, kind, moved, node, **options))

    return lower


def _flat(node: Node, to: Builder, kind: str, value: Value) -> None:
    """Before opset 13: over all axes from the given one on, as if they were one."""
    axis = node.attribute("axis", 1)
    if axis % value.rank != value.rank - 1:
        raise Unsupported("takes a softmax over several axes at once (before opset 13)")
    options = {"beta": 1.0} if kind == "SOFTMAX" else {}
    moved = Value(to.stored(value), layout.identity(value.rank), value.dtype)
    to.bind_value(node.outputs[0], _apply(to, kind, moved, node, **options))


OPERATORS: dict[str, Lowering] = {
    "Clip": _clip,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _softmax("LOG_SOFTMAX"),
    "Relu": unary("RELU"),
    "Sigmoid": unary("LOGISTIC"),
    "Softmax": _softmax("SOFTMAX"),
    "Tanh": unary("TANH"),
}
