"""QuantizeLinear, DequantizeLinear and Cast: how a value is stored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering.builder import FLOAT, Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.elementwise import casted, pair, plain
from hasten.runtimes.litert.lowering.program import Tensor
from hasten.runtimes.litert.lowering.quantization import Target, shifted
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _quantize_linear(node: Node, to: Builder) -> None:
    """Codes are a value that is stored in integers; nothing is emitted where it already is."""
    if node.attribute("block_size", 0):
        raise Unsupported("quantized in blocks")
    value = to.value(node.input(0))
    if value.dtype != FLOAT:
        raise Unsupported(f"quantizes {value.dtype}")
    form = _form(node, to, value, node.dtype)
    if not form.quantization.per_tensor and not value.constant:
        _quantized_by_hand(node, to, value, form)
        return
    made = to.quantized(value, form.quantization, form.dtype)
    to.bind_value(node.outputs[0], replace(made, dtype=node.dtype))


def _quantized_by_hand(node: Node, to: Builder, value: Value, form: Target) -> None:
    """Scales per channel of an activation: TFLite has them for weights alone."""
    value = plain(to, value)
    along = [1] * value.rank
    along[form.quantization.axis] = -1
    zero_point = form.quantization.zero_point
    if node.dtype != form.dtype:
        zero_point = zero_point - int(np.iinfo(form.dtype).min)
    limits = np.iinfo(node.dtype)
    tensor = value.tensor
    for kind, operand in (
        ("DIV", form.quantization.scale.reshape(along)),
        ("ROUND", None),
        ("ADD", zero_point.astype(np.float32).reshape(along)),
        ("MAXIMUM", np.array(limits.min, np.float32)),
        ("MINIMUM", np.array(limits.max, np.float32)),
        ("CAST", None),
    ):
        operands = [tensor] if operand is None else [tensor, to.constant(operand)]
        tensor = to.emit(kind, operands, tensor.shape, node.dtype if kind == "CAST" else FLOAT)
    to.bind(node.outputs[0], tensor, value.perm)


def _dequantize_linear(node: Node, to: Builder) -> None:
    """The real value of codes: said by the scale that is stored with them."""
    if node.attribute("block_size", 0):
        raise Unsupported("quantized in blocks")
    value = to.value(node.input(0))
    form = _form(node, to, value, value.dtype)
    if value.tensor.quantization is None:
        value = _declared(to, value, form)
    if value.tensor.quantization is None:
        _by_hand(node, to, value, form)
        return
    if not form.quantization.same(value.tensor.quantization):
        raise Unsupported("reads integers with another scale than they were written with")
    to.bind_value(node.outputs[0], replace(value, dtype=FLOAT))


def _form(node: Node, to: Builder, value: Value, dtype: np.dtype[np.generic]) -> Target:
    scale = to.require(node.input(1), "scale")
    zero_point = to.array(node.input(2))
    if zero_point is None and node.input(2):
        raise Unsupported("its zero point is not constant")
    if zero_point is None:
        zero_point = np.zeros(scale.shape, dtype)
    axis = node.attribute("axis", 1)
    stored = value.perm.index(axis % value.rank) if scale.size > 1 else 0
    return shifted(scale, zero_point, stored)


def _declared(to: Builder, value: Value, form: Target) -> Value:
    """Give integers that carry no scale yet the one they are read with."""
    tensor = value.tensor
    if tensor.data is not None:
        offset = 0 if tensor.dtype == form.dtype else int(np.iinfo(form.dtype).min)
        data = (tensor.data.astype(np.int64) + offset).astype(form.dtype)
        return replace(value, tensor=to.constant(data, tensor.name, form.quantization))
    if not form.quantization.per_tensor or not _is_input(to, tensor):
        return value
    if tensor.dtype == form.dtype:
        tensor.quantization = form.quantization
        return value
    # An unsigned input, such as pixels: it keeps its codes, and is read with a sign.
    shift = int(np.iinfo(form.dtype).min)
    quantization = form.quantization
    tensor.quantization = type(quantization)(quantization.scale, quantization.zero_point - shift)
    return replace(value, tensor=to.with_other_sign(tensor, form.dtype))


def _is_input(to: Builder, tensor: Tensor) -> bool:
    """Whether no operator writes this tensor."""
    return not any(tensor in operator.outputs for operator in to.operators)


def _by_hand(node: Node, to: Builder, value: Value, form: Target) -> None:
    """Scales per channel of an activation: TFLite has them for weights alone."""
    rank = value.rank
    along = [1] * rank
    along[form.quantization.axis if not form.quantization.per_tensor else -1] = -1
    zero_point = form.quantization.zero_point
    if value.dtype != form.dtype:
        zero_point = zero_point - int(np.iinfo(form.dtype).min)
    # A DEQUANTIZE would stay within XNNPACK, and was slower: 0.92x on a pruned Lite0 in int8.
    tensor = to.emit("CAST", [value.tensor], value.tensor.shape, FLOAT)
    if np.any(zero_point):
        shift = to.constant(zero_point.astype(np.float32).reshape(along))
        tensor = to.emit("SUB", [tensor, shift], tensor.shape, FLOAT)
    scale = to.constant(form.quantization.scale.reshape(along))
    tensor = to.emit("MUL", [tensor, scale], tensor.shape, FLOAT)
    to.bind(node.outputs[0], tensor, value.perm)


def _cast(node: Node, to: Builder) -> None:
    """Between numbers: truncated towards zero, as ONNX has it. CastLike reads the dtype alone."""
    value = plain(to, to.value(node.input(0)))
    if node.dtype != np.bool_ or value.dtype == np.bool_:
        to.bind_value(node.outputs[0], casted(to, value, node.dtype))
        return
    zero = Value(to.constant(np.zeros((), value.dtype)), (), value.dtype)
    made = pair(to, "NOT_EQUAL", value, zero, shape=value.shape, dtype=node.dtype)
    to.bind_value(node.outputs[0], made)


OPERATORS = {
    "Cast": _cast,
    "CastLike": _cast,
    "DequantizeLinear": _dequantize_linear,
    "QuantizeLinear": _quantize_linear,
}
