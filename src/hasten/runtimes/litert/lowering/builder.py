"""What the lowering of an operator works with: values, their layouts, and operators to emit.

A value is an ONNX tensor as the program holds it. It may be stored with its axes in another order
(an image behind a convolution has its channels last) and as int8 (behind a DequantizeLinear), and
whoever reads it asks for it in the form it needs: the conversion is emitted once, if at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.layout import Perm
from hasten.runtimes.litert.lowering.limits import require_taken
from hasten.runtimes.litert.lowering.program import Operator, Quantization, Tensor
from hasten.runtimes.litert.lowering.quantization import Target
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["Builder", "Value", "dequantized", "quantize"]

FLOAT = np.dtype(np.float32)


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor, the order its axes are stored in, and the dtype that ONNX knows it by.

    Where ``tensor`` is quantized, the value is the real one: what a DequantizeLinear gives.
    """

    tensor: Tensor
    perm: Perm
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape in the order of ONNX."""
        shape = [0] * len(self.perm)
        for at, axis in enumerate(self.perm):
            shape[axis] = self.tensor.shape[at]
        return tuple(shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.perm)

    @property
    def quantized(self) -> bool:
        """Whether it is stored in integers with a scale."""
        return self.tensor.quantization is not None

    @property
    def constant(self) -> bool:
        """Whether it is known now."""
        return self.tensor.data is not None

    def activation_like(self, dtype: np.dtype[Any]) -> bool:
        """Whether it is stored in these integers, with one scale for all of it."""
        found = self.tensor.quantization
        return found is not None and found.per_tensor and self.tensor.dtype == dtype


@dataclass(eq=False)
class Builder:
    """The program as it grows. ``source`` is the node that is being lowered."""

    values: dict[str, Value] = field(default_factory=dict)
    operators: list[Operator] = field(default_factory=list)
    #: The form that an ONNX value is to be written in, where nothing reads it as a float.
    targets: dict[str, Target] = field(default_factory=dict)
    source: str = ""
    _converted: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    _kept: list[Tensor] = field(default_factory=list)

    # Values

    def value(self, name: str) -> Value:
        """The value of this name, as it is stored."""
        return self.values[name]

    def array(self, name: str) -> np.ndarray | None:
        """The constant of this name in ONNX's order and dtype; None where it is not constant."""
        if not name:
            return None
        return self.data_of(self.values[name])

    def data_of(self, value: Value) -> np.ndarray | None:
        """Elements of a constant value in ONNX's order, real ones where it is quantized."""
        tensor = value.tensor
        if tensor.data is None:
            return None
        data = dequantized(tensor)
        return np.asarray(data.transpose(np.argsort(value.perm)), order="C")

    def require(self, name: str, what: str) -> np.ndarray:
        """The constant of this name; Unsupported where it is computed while the model runs."""
        found = self.array(name)
        if found is None:
            raise Unsupported(f"its {what} is not constant")
        return found

    def bind(self, name: str, tensor: Tensor, perm: Perm | None = None, dtype: Any = None) -> None:
        """Say which tensor holds an ONNX value, stored in this order (ONNX's own where none)."""
        perm = layout.identity(len(tensor.shape)) if perm is None else perm
        if dtype is None:
            dtype = FLOAT if tensor.quantization is not None else tensor.dtype
        self.values[name] = Value(tensor, perm, np.dtype(dtype))

    def bind_value(self, name: str, value: Value) -> None:
        """Give an ONNX value the form of another: nothing is computed."""
        self.values[name] = value

    def constant(
        self, data: np.ndarray, name: str = "", quantization: Quantization | None = None
    ) -> Tensor:
        """A tensor that is known now."""
        array = np.asarray(data, order="C")  # which leaves a scalar one
        name = name or f"{self.source}/constant"
        return Tensor(name, array.dtype, array.shape, array, quantization)

    def sizes(self, *numbers: int) -> Tensor:
        """A constant list of int32: a shape, axes, paddings."""
        return self.constant(np.array(numbers, np.int32))

    # Forms

    def stored(self, value: Value, perm: Perm | None = None) -> Tensor:
        """The value's tensor with its axes in this order (ONNX's own where none)."""
        want = layout.identity(value.rank) if perm is None else perm
        if want == value.perm:
            return value.tensor
        key: tuple[object, ...] = (id(value.tensor), value.perm, want)
        if key not in self._converted:
            moved = layout.transposition(value.perm, want)
            self._converted[key] = self._transposed(value.tensor, moved)
            self._kept.append(value.tensor)  # an id is only unique while its object lives
        return self._converted[key]

    def _transposed(self, tensor: Tensor, moved: Perm) -> Tensor:
        shape = layout.apply(moved, tensor.shape)
        quantization = tensor.quantization
        if quantization is not None and not quantization.per_tensor:
            quantization = quantization.on_axis(moved.index(quantization.axis))
        if tensor.data is not None:
            data = np.ascontiguousarray(tensor.data.transpose(moved))
            return Tensor(tensor.name, tensor.dtype, shape, data, quantization)
        if not layout.moves_data(moved, tensor.shape):
            return self.reshaped(tensor, shape)
        return self.emit("TRANSPOSE", [tensor, self.sizes(*moved)], shape, like=tensor)

    def reshaped(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements in another shape."""
        shape = tuple(int(dim) for dim in shape)
        if shape == tensor.shape:
            return tensor
        if tensor.data is not None:
            made = self.constant(tensor.data.reshape(shape), tensor.name, tensor.quantization)
            if made.quantization is not None and not made.quantization.per_tensor:
                raise Unsupported("reshapes weights that are quantized per channel")
            return made
        return self.emit(
            "RESHAPE", [tensor, self.sizes(*shape)], shape, like=tensor, newShape=list(shape)
        )

    def target(self, output: str, *inputs: Value) -> Target | None:
        """The form to write an output in where an integer kernel can: all it reads is quantized."""
        found = self.targets.get(output)
        if found is None or not all(value.activation_like(found.dtype) for value in inputs):
            return None
        return found

    def real(self, value: Value) -> Value:
        """The value as stored in the dtype that ONNX has for it: dequantized where it was not."""
        tensor = value.tensor
        if tensor.quantization is None or value.dtype != FLOAT:
            return value
        key: tuple[object, ...] = (id(tensor), "real")
        if key not in self._converted:
            self._converted[key] = self._dequantized(tensor)
            self._kept.append(tensor)
        return replace(value, tensor=self._converted[key])

    def _dequantized(self, tensor: Tensor) -> Tensor:
        if tensor.data is not None and (tensor.size < _SMALL or not _has_kernel(tensor)):
            return self.constant(dequantized(tensor), tensor.name)
        return self.emit("DEQUANTIZE", [tensor], tensor.shape, FLOAT)

    def quantized(self, value: Value, quantization: Quantization, dtype: Any = np.int8) -> Value:
        """The value as integers with this scale."""
        tensor = value.tensor
        if tensor.dtype == dtype and quantization.same(tensor.quantization):
            return value
        if tensor.data is not None:
            codes = quantize(dequantized(tensor), quantization, dtype)
            made = self.constant(codes, tensor.name, quantization)
        else:
            made = self.emit("QUANTIZE", [tensor], tensor.shape, dtype, quantization=quantization)
        return replace(value, tensor=made)

    def with_other_sign(self, tensor: Tensor, dtype: Any) -> Tensor:
        """The same real values in integers of the other sign, exactly.

        Through floats: XNNPACK has vector kernels for both halves, while the one QUANTIZE between
        two integers falls to TFLite's own kernel, on one thread, and outside of the delegate.
        """
        found = tensor.quantization
        assert found is not None, f"{tensor.name} carries no scale"  # noqa: S101
        moved = int(np.iinfo(dtype).min) - int(np.iinfo(tensor.dtype).min)
        quantization = Quantization(found.scale, found.zero_point + moved, found.axis)
        real = self._dequantized(tensor)
        made = self.emit("QUANTIZE", [real], tensor.shape, dtype, quantization=quantization)
        # Who wants real values reads those there are.
        self._converted[(id(made), "real")] = real
        self._kept.append(made)
        return made

    # Operators

    def emit(
        self,
        kind: str,
        inputs: Sequence[Tensor | None],
        shape: Sequence[int],
        dtype: Any = None,
        *,
        like: Tensor | None = None,
        quantization: Quantization | None = None,
        name: str = "",
        options: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> Tensor:
        """Append an operator with one output and return that; ``like`` gives dtype and scale.

        ``options`` and further keywords are fields of the operator's options table.
        """
        if like is not None:
            dtype, quantization = like.dtype, like.quantization
        shape = tuple(int(dim) for dim in shape)
        out = Tensor(name or f"{self.source}/{kind.lower()}", np.dtype(dtype), shape)
        out.quantization = quantization
        self.emit_to(kind, inputs, [out], **{**(options or {}), **fields})
        return out

    def emit_to(
        self,
        kind: str,
        inputs: Sequence[Tensor | None],
        outputs: Sequence[Tensor],
        **options: Any,
    ) -> None:
        """Append an operator with outputs made by the caller.

        Raises Unsupported where its kernel takes no such operand.
        """
        require_taken(kind, inputs)
        made = Operator(kind, list(inputs), list(outputs), options, self.source)
        self.operators.append(made)


#: Constants of fewer elements are dequantized now; larger ones keep their small storage.
_SMALL = 512
#: What DEQUANTIZE takes (``tflite/kernels/dequantize.cc``): not int32, which biases are stored in.
_DEQUANTIZED = frozenset({"int8", "uint8", "int16"})


def _has_kernel(tensor: Tensor) -> bool:
    """Whether DEQUANTIZE takes these integers; those of 16 bits only where zero is the code 0."""
    points = tensor.quantization.zero_point if tensor.quantization is not None else np.zeros(1)
    shifted = tensor.dtype == np.int16 and bool(np.any(points))
    return tensor.dtype.name in _DEQUANTIZED and not shifted


def dequantized(tensor: Tensor) -> np.ndarray:
    """Real elements of a constant quantized tensor."""
    if tensor.quantization is None:
        return tensor.elements
    scale, zero_point = _along(tensor.quantization, len(tensor.shape))
    return np.asarray((tensor.elements.astype(np.float32) - zero_point) * scale, np.float32)


def quantize(real: np.ndarray, quantization: Quantization, dtype: Any) -> np.ndarray:
    """Round half to even, and saturate, as QuantizeLinear does."""
    scale, zero_point = _along(quantization, real.ndim)
    limits = np.iinfo(dtype)
    codes = np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max)
    return np.asarray(codes.astype(dtype))


def _along(quantization: Quantization, rank: int) -> tuple[np.ndarray, np.ndarray]:
    scale = quantization.scale.astype(np.float32)
    zero_point = quantization.zero_point.astype(np.float32)
    if quantization.per_tensor:
        return scale.reshape(()), zero_point.reshape(())
    along = [1] * rank
    along[quantization.axis] = -1
    return scale.reshape(along), zero_point.reshape(along)
