"""Activations: one operand, element by element.

Those without a builtin operator are _composed of others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from hasten.runtimes.litert.lowering.broadcast import align
from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.composition import casted, compute, constant, polynomial
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.program import Quantization
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS", "apply", "sigmoid", "unary"]

#: Kinds whose int8 kernels write one scale only (TFLite's int8 quantization specification).
_FIXED = {
    "LOGISTIC": Quantization.of(1 / 256, -128),
    "SOFTMAX": Quantization.of(1 / 256, -128),
    "TANH": Quantization.of(1 / 128, 0),
}
#: Kinds whose kernels read one scale and write another, with the dtypes they do that in.
_RESCALING: dict[str, set[np.dtype[Any]]] = {
    "ELU": {np.dtype(np.int8)},
    "GELU": {np.dtype(np.int8)},
    "HARD_SWISH": {np.dtype(np.int8)},
    "LEAKY_RELU": {np.dtype(np.int8), np.dtype(np.int16)},
    "RELU": {np.dtype(np.int8), np.dtype(np.int16)},
    "RELU6": {np.dtype(np.int8)},
    "RELU_N1_TO_1": {np.dtype(np.int8)},
}

#: Bounds of the clips that are builtin operators.
_CLIPS = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1"}

#: Dtypes that kernels take for quantized values, so that plain integers must not reach them.
_NARROW = frozenset(np.dtype(kind) for kind in (np.int8, np.uint8, np.int16, np.uint16))


def unary(kind: str, **options: float | bool) -> Lowering:
    """An operator of one operand, of any rank and in any order of axes."""

    def lower(node: Node, to: Builder) -> None:
        made = apply(to, kind, to.value(node.input(0)), node, **options)
        to.bind_value(node.outputs[0], made)

    return lower


def apply(to: Builder, kind: str, value: Value, node: Node, **options: float | bool) -> Value:
    """One operator on one operand, in integers where the kernel has that."""
    form = _form(to.target(node.outputs[0], value), kind)
    if form is None:
        return compute(to, kind, to.real(value), **options)
    tensor = value.tensor
    made = to.emit(
        kind,
        [tensor],
        tensor.shape,
        form.dtype,
        quantization=form.quantization,
        options=options,
    )
    return Value(made, value.perm, node.dtype)


def _form(wanted: Target | None, kind: str) -> Target | None:
    """What the integer kernel writes, None where it has none that is exact enough.

    A scale that is fixed is requantized to the wanted one: up to twice as coarse, that stays
    within one step of the latter.
    """
    if wanted is None or wanted.dtype in _RESCALING.get(kind, set()):
        return wanted
    fixed = _FIXED.get(kind)
    if fixed is None or wanted.dtype != np.int8:
        return None
    fine = fixed.scale.item() <= 2 * wanted.quantization.scale.item()
    return Target(fixed, wanted.dtype) if fine else None


def _composed(rule: Callable[[Node, Builder, Value], Value]) -> Lowering:
    """An activation made of several operators on floats."""

    def lower(node: Node, to: Builder) -> None:
        value = to.real(to.value(node.input(0)))
        if value.dtype != FLOAT:
            raise Unsupported(f"takes {value.dtype}")
        to.bind_value(node.outputs[0], rule(node, to, value))

    return lower


def _relu(node: Node, to: Builder) -> None:
    """RELU; integers without a scale are compared with 0."""
    value = to.value(node.input(0))
    if value.dtype == FLOAT:
        to.bind_value(node.outputs[0], apply(to, "RELU", value, node))
    else:
        to.bind_value(node.outputs[0], _bounded(to, value, 0, np.inf))


def _clip(node: Node, to: Builder) -> None:
    """A builtin operator for the usual bounds; else MAXIMUM and MINIMUM."""
    value = to.value(node.input(0))
    low = _bound(node, to, "min", 1, -np.inf)
    high = _bound(node, to, "max", 2, np.inf)
    kind = _CLIPS.get((low, high)) if value.dtype == FLOAT else None
    if kind is not None:
        to.bind_value(node.outputs[0], apply(to, kind, value, node))
    else:
        to.bind_value(node.outputs[0], _bounded(to, to.real(value), min(low, high), high))


def _bounded(to: Builder, value: Value, low: float, high: float) -> Value:
    """The value within bounds; narrow integers are compared in 32 bits."""
    if value.quantized:
        raise Unsupported("bounds the codes of a quantized value")
    dtype = value.dtype
    if dtype in _NARROW:
        value = casted(to, value, np.int32)
    for bound, kind in ((low, "MAXIMUM"), (high, "MINIMUM")):
        if not np.isinf(bound):
            value = compute(to, kind, value, bound)
    return casted(to, value, dtype)


def _bound(node: Node, to: Builder, name: str, at: int, default: float) -> float:
    given = node.attribute(name)  # before opset 11
    if given is not None:
        return float(given)
    if not node.input(at):
        return default
    found = to.require(node.input(at), name)
    return float(found.item()) if found.dtype.kind == "f" else int(found.item())


def _leaky_relu(node: Node, to: Builder) -> None:
    """The slope is an option."""
    alpha = node.attribute("alpha", 0.01)
    value = to.value(node.input(0))
    to.bind_value(node.outputs[0], apply(to, "LEAKY_RELU", value, node, alpha=alpha))


def _prelu(node: Node, to: Builder) -> None:
    """PRELU, whose slopes are broadcast to the operand."""
    value, slope = to.value(node.input(0)), to.value(node.input(1))
    if value.dtype != FLOAT:
        raise Unsupported(f"takes {value.dtype}")
    form = to.target(node.outputs[0], value)
    if form is None or form.dtype != np.int8 or not slope.constant:
        form, value, slope = None, to.real(value), to.real(slope)
    elif not slope.activation_like(np.dtype(np.int8)):
        largest = float(np.abs(to.require(node.input(1), "slope")).max()) or 1.0
        slope = to.quantized(slope, Quantization.of(largest / 127, 0))
    tensors, perm = align(to, [value, slope], value.shape)
    made = to.emit(
        "PRELU",
        tensors,
        tensors[0].shape,
        FLOAT if form is None else form.dtype,
        quantization=None if form is None else form.quantization,
    )
    to.bind_value(node.outputs[0], Value(made, perm, node.dtype))


def _gelu(node: Node, to: Builder) -> None:
    """Both forms are options of one builtin operator."""
    tanh = node.attribute("approximate", "none") == "tanh"
    value = to.value(node.input(0))
    to.bind_value(node.outputs[0], apply(to, "GELU", value, node, approximate=tanh))


def _elu(node: Node, to: Builder) -> None:
    """ELU has a slope of 1; another one is put together."""
    alpha = node.attribute("alpha", 1.0)
    value = to.value(node.input(0))
    if alpha == 1.0:
        to.bind_value(node.outputs[0], apply(to, "ELU", value, node))
        return
    to.bind_value(node.outputs[0], _scaled_elu(to, to.real(value), alpha))


def _scaled_elu(to: Builder, value: Value, alpha: float) -> Value:
    """``max(x, 0) + alpha * elu(min(x, 0))``."""
    below = compute(to, "ELU", compute(to, "MINIMUM", value, 0.0))
    return compute(to, "ADD", compute(to, "MUL", below, alpha), compute(to, "RELU", value))


def _selu(node: Node, to: Builder, value: Value) -> Value:
    """An ELU times a factor."""
    alpha = node.attribute("alpha", 1.6732632423543772848170429916717)
    gamma = node.attribute("gamma", 1.0507009873554804934193349852946)
    return compute(to, "MUL", _scaled_elu(to, value, alpha), gamma)


def _celu(node: Node, to: Builder, value: Value) -> Value:
    """``max(x, 0) + alpha * elu(min(x, 0) / alpha)``."""
    alpha = node.attribute("alpha", 1.0)
    below = compute(to, "MUL", compute(to, "MINIMUM", value, 0.0), 1.0 / alpha)
    below = compute(to, "MUL", compute(to, "ELU", below), alpha)
    return compute(to, "ADD", below, compute(to, "RELU", value))


def sigmoid(to: Builder, value: Value, alpha: float = 0.2, beta: float = 0.5) -> Value:
    """The hard one: ``relu6(6 alpha x + 6 beta) / 6``."""
    made = value if 6 * alpha == 1.0 else compute(to, "MUL", value, 6 * alpha)
    made = compute(to, "RELU6", compute(to, "ADD", made, 6 * beta))
    return compute(to, "MUL", made, 1 / 6)


def _hard_sigmoid(node: Node, to: Builder, value: Value) -> Value:
    """A line between 0 and 1."""
    return sigmoid(to, value, node.attribute("alpha", 0.2), node.attribute("beta", 0.5))


#: Numerator and denominator of the approximation below, the highest power of x**2 first.
_ERF = (
    (
        0.00022905065861350646,
        0.0034082910107109506,
        0.050955695062380861,
        0.18520832239976145,
        1.128379143519084,
    ),
    (
        -1.1791602954361697e-7,
        0.000023547966471313185,
        0.0010179625278914885,
        0.014070470171167667,
        0.11098505178285362,
        0.49746925110067538,
        1.0,
    ),
)
#: Beyond, the error function is 1 to float32.
_ERF_BOUND = 3.832506856900711


def _erf(_: Node, to: Builder, value: Value) -> Value:
    """A rational approximation, within 1e-6 everywhere (in float32).

    Source: ``ErfImpl32`` in XLA's ``client/lib/math.cc``.
    """
    within = compute(to, "MINIMUM", value, _ERF_BOUND)
    within = compute(to, "MAXIMUM", within, -_ERF_BOUND)
    square = compute(to, "MUL", within, within)
    over, under = (polynomial(to, square, one) for one in _ERF)
    return compute(to, "DIV", compute(to, "MUL", within, over), under)


def _softplus(_: Node, to: Builder, value: Value) -> Value:
    """``max(x, 0) + log(1 + exp(-abs(x)))``: nothing overflows."""
    small = compute(to, "EXP", compute(to, "NEG", compute(to, "ABS", value)))
    rest = compute(to, "LOG", compute(to, "ADD", small, 1.0))
    return compute(to, "ADD", compute(to, "RELU", value), rest)


def _softsign(_: Node, to: Builder, value: Value) -> Value:
    """``x / (1 + abs(x))``."""
    return compute(to, "DIV", value, compute(to, "ADD", compute(to, "ABS", value), 1.0))


def _thresholded_relu(node: Node, to: Builder, value: Value) -> Value:
    """The operand where it is greater than a threshold, else 0."""
    return _where_greater(to, value, node.attribute("alpha", 1.0), value)


def _mish(node: Node, to: Builder, value: Value) -> Value:
    """``x * tanh(softplus(x))``."""
    return compute(to, "MUL", value, compute(to, "TANH", _softplus(node, to, value)))


def _swish(node: Node, to: Builder, value: Value) -> Value:
    """``x * logistic(alpha * x)``."""
    alpha = node.attribute("alpha", 1.0)
    inner = value if alpha == 1.0 else compute(to, "MUL", value, alpha)
    return compute(to, "MUL", value, compute(to, "LOGISTIC", inner))


def _shrink(node: Node, to: Builder, value: Value) -> Value:
    """Towards 0 by the bias, and 0 between the thresholds."""
    threshold, bias = node.attribute("lambd", 0.5), node.attribute("bias", 0.0)
    above = _where_greater(to, value, threshold, compute(to, "ADD", value, -bias))
    mirrored = compute(to, "NEG", value)
    below = _where_greater(to, mirrored, threshold, compute(to, "ADD", mirrored, -bias))
    return compute(to, "SUB", above, below)


def _where_greater(to: Builder, value: Value, threshold: float, chosen: Value) -> Value:
    tensor = value.tensor
    limit = constant(to, threshold, value).tensor
    where = to.emit("GREATER", [tensor, limit], tensor.shape, np.bool_)
    zeros = to.constant(np.zeros((), value.dtype))
    made = to.emit("SELECT_V2", [where, chosen.tensor, zeros], tensor.shape, like=tensor)
    return replace(value, tensor=made)


OPERATORS: dict[str, Lowering] = {
    "Celu": _composed(_celu),
    "Clip": _clip,
    "Elu": _elu,
    "Erf": _composed(_erf),
    "Gelu": _gelu,
    "HardSigmoid": _composed(_hard_sigmoid),
    "HardSwish": unary("HARD_SWISH"),
    "LeakyRelu": _leaky_relu,
    "Mish": _composed(_mish),
    "PRelu": _prelu,
    "Relu": _relu,
    "Selu": _composed(_selu),
    "Shrink": _composed(_shrink),
    "Sigmoid": unary("LOGISTIC"),
    "Softplus": _composed(_softplus),
    "Softsign": _composed(_softsign),
    "Swish": _composed(_swish),
    "Tanh": unary("TANH"),
    "ThresholdedRelu": _composed(_thresholded_relu),
}
