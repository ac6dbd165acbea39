"""Activations: one operand, element by element; softmax and norm over the last axis."""

from __future__ import annotations

import math

import numpy as np

from hasten.graph.tflite.builder import Builder
from hasten.graph.tflite.operators.table import Importing
from hasten.graph.tflite.program import Operator
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["OPERATORS", "activated"]

#: ActivationFunctionType of the schema: lower and upper bound of those that clip.
_BOUNDS = {1: (0.0, np.inf), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
_NONE, _TANH = 0, 4

#: What L2_NORMALIZATION divides by at least.
_EPSILON = 1e-6


def activated(op: Operator, to: Builder, name: str) -> str:
    """The value behind the activation that is fused into an operator, if any."""
    kind = op.option("FusedActivationFunction", _NONE)
    if kind == _NONE:
        return name
    if kind == _TANH:
        return to.emit("Tanh", [name])
    if kind not in _BOUNDS:
        raise Unsupported(f"has the fused activation {kind}")
    low, high = _BOUNDS[kind]
    return name if _implied(op, to, low, high) else _clipped(to, name, low, high, op.outputs[0])


def _implied(op: Operator, to: Builder, low: float, high: float) -> bool:
    """Whether the output's integers cannot hold what the bounds would cut off.

    A runtime fuses a convolution with the quantization that follows it at once.
    """
    tensor = to.tensor(op.outputs[0])
    found = tensor.quantization
    if found is None or not found.per_tensor:
        return False
    scale, point = float(found.scale[0]), int(found.zero_point[0])
    limits = np.iinfo(tensor.dtype)
    # Bounds in integers, as kernels have them: CalculateActivationRangeQuantized of TFLite.
    return point + round(low / scale) <= limits.min and (
        math.isinf(high) or point + round(high / scale) >= limits.max
    )


def _clipped(to: Builder, name: str, low: float, high: float, output: int) -> str:
    if (low, high) == _BOUNDS[1]:
        return to.emit("Relu", [name])
    dtype = to.dtype(output)
    return to.emit("Clip", [name, to.number(low, dtype), to.number(high, dtype)])


def _unary(op_type: str) -> Importing:
    """A node of one operand, in any order of axes."""

    def build(op: Operator, to: Builder) -> None:
        perm = to.perm(op.input(0))
        to.bind(op.outputs[0], to.emit(op_type, [to.read(op.input(0), perm)]), perm)

    return build


def _clip(low: float, high: float) -> Importing:
    """Bounds that an operator of its own gives."""

    def build(op: Operator, to: Builder) -> None:
        perm = to.perm(op.input(0))
        name = to.read(op.input(0), perm)
        to.bind(op.outputs[0], _clipped(to, name, low, high, op.outputs[0]), perm)

    return build


def _leaky_relu(op: Operator, to: Builder) -> None:
    """The slope is an option."""
    perm = to.perm(op.input(0))
    made = to.emit("LeakyRelu", [to.read(op.input(0), perm)], alpha=float(op.option("Alpha")))
    to.bind(op.outputs[0], made, perm)


def _prelu(op: Operator, to: Builder) -> None:
    """Slopes broadcast against the value."""
    rank, perm = to.rank(op.input(0)), to.perm(op.input(0))
    slope = to.read(op.input(1), perm, rank)
    to.bind(op.outputs[0], to.emit("PRelu", [to.read(op.input(0), perm), slope]), perm)


def _square(op: Operator, to: Builder) -> None:
    """A value times itself."""
    perm = to.perm(op.input(0))
    name = to.read(op.input(0), perm)
    to.bind(op.outputs[0], to.emit("Mul", [name, name]), perm)


def _rsqrt(op: Operator, to: Builder) -> None:
    """One over the root."""
    perm = to.perm(op.input(0))
    root = to.emit("Sqrt", [to.read(op.input(0), perm)])
    to.bind(op.outputs[0], to.emit("Reciprocal", [root]), perm)


def _gelu(op: Operator, to: Builder) -> None:
    """ONNX has it as one operator from opset 20; here it is written out.

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.
    """
    perm = to.perm(op.input(0))
    x = to.read(op.input(0), perm)
    if op.option("Approximate", default=False):
        cube = to.emit("Mul", [to.emit("Mul", [x, x]), x])
        sum_ = to.emit("Add", [x, to.emit("Mul", [cube, to.number(0.044715)])])
        inner = to.emit("Tanh", [to.emit("Mul", [sum_, to.number(math.sqrt(2 / math.pi))])])
    else:
        inner = to.emit("Erf", [to.emit("Div", [x, to.number(math.sqrt(2))])])
    gate = to.emit("Add", [inner, to.number(1)])
    half = to.emit("Mul", [to.emit("Mul", [x, gate]), to.number(0.5)])
    to.bind(op.outputs[0], half, perm)


def _softmax(op_type: str) -> Importing:
    """Over the last axis, wherever it is."""

    def build(op: Operator, to: Builder) -> None:
        perm = to.perm(op.input(0))
        if not perm:
            raise Unsupported("takes a softmax of a scalar")
        name = to.read(op.input(0), perm)
        beta = op.option("Beta", 1.0) if op_type == "Softmax" else 1.0
        if beta != 1:
            name = to.emit("Mul", [name, to.number(beta)])
        axis = perm.index(len(perm) - 1)
        to.bind(op.outputs[0], to.emit(op_type, [name], axis=axis), perm)

    return build


def _l2_normalization(op: Operator, to: Builder) -> None:
    """Over the last axis, which a vector of zeros comes through."""
    perm = to.perm(op.input(0))
    name = to.read(op.input(0), perm)
    axes = to.longs(perm.index(len(perm) - 1))
    length = to.emit("ReduceL2", [name, axes], keepdims=1)
    made = to.emit("Div", [name, to.emit("Max", [length, to.number(_EPSILON)])])
    to.bind(op.outputs[0], activated(op, to, made), perm)


OPERATORS: dict[str, Importing] = {
    "ABS": _unary("Abs"),
    "CEIL": _unary("Ceil"),
    "COS": _unary("Cos"),
    "ELU": _unary("Elu"),
    "EXP": _unary("Exp"),
    "FLOOR": _unary("Floor"),
    "GELU": _gelu,
    "HARD_SWISH": _unary("HardSwish"),
    "L2_NORMALIZATION": _l2_normalization,
    "LEAKY_RELU": _leaky_relu,
    "LOG": _unary("Log"),
    "LOGICAL_NOT": _unary("Not"),
    "LOGISTIC": _unary("Sigmoid"),
    "LOG_SOFTMAX": _softmax("LogSoftmax"),
    "NEG": _unary("Neg"),
    "PRELU": _prelu,
    "RELU": _clip(0.0, np.inf),
    "RELU6": _clip(0.0, 6.0),
    "RELU_0_TO_1": _clip(0.0, 1.0),
    "RELU_N1_TO_1": _clip(-1.0, 1.0),
    "ROUND": _unary("Round"),
    "RSQRT": _rsqrt,
    "SIGN": _unary("Sign"),
    "SIN": _unary("Sin"),
    "SOFTMAX": _softmax("Softmax"),
    "SQRT": _unary("Sqrt"),
    "SQUARE": _square,
    "TANH": _unary("Tanh"),
}
