"""What the import of an operator works with: values, their forms, and nodes to emit.

A tensor of the file becomes an ONNX value. It may have its axes in another order (an image behind
a convolution has its channels second), and it is stored in integers where the file quantizes it.
Whoever reads it asks for it in the form it needs: the conversion is emitted once, if at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import onnx
from onnx import helper

from hasten.graph.signature import numpy_dtype
from hasten.graph.tflite import layout
from hasten.graph.tflite.layout import Perm
from hasten.graph.tflite.program import Program, Quantization, Tensor
from hasten.graph.tflite.refusal import Unsupported

__all__ = ["FLOAT", "Builder", "Value"]

FLOAT = np.dtype(np.float32)

#: How much larger than the file its constants may become: float16 doubles, as int4 does.
_MAX_GROWTH = 4
_SLACK_BYTES = 1 << 22

#: Element types that nodes compute in another one.
_WIDENED = frozenset({"float16", "bfloat16"})

#: Integers of activations that are written unsigned.
_SHIFTED = frozenset({"int8"})


@dataclass(frozen=True)
class Value:
    """An ONNX value, and the axis of the tensor that each of its axes is."""

    name: str
    perm: Perm


@dataclass(eq=False)
class Builder:
    """The graph as it grows. ``source`` names what the operator at hand makes."""

    program: Program
    file_bytes: int
    #: Whether the first axis of inputs may have any size.
    batch_is_free: bool = False
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    #: What each tensor is stored as: integers where it is quantized.
    stored: dict[int, Value] = field(default_factory=dict)
    source: str = ""
    _taken: set[str] = field(default_factory=set)
    _moved: dict[tuple[str, Perm], str] = field(default_factory=dict)
    _real: dict[tuple[str, int], str] = field(default_factory=dict)
    _numbers: dict[tuple[str, tuple[int, ...], bytes], str] = field(default_factory=dict)
    _held: dict[tuple[int, Perm, int], tuple[str, Quantization | None]] = field(
        default_factory=dict
    )
    _bytes: int = 0

    # Tensors of the file

    def tensor(self, index: int) -> Tensor:
        """A tensor that can be imported; Unsupported with the reason where it cannot."""
        if index < 0:
            raise Unsupported("lacks an input")
        found = self.program.tensors[index]
        if found.trouble:
            raise Unsupported(f"{found.name} {found.trouble}")
        if found.dtype in {"str", "complex64", "complex128"}:
            raise Unsupported(f"{found.name} is of {found.dtype}")
        return found

    def shape(self, index: int) -> tuple[int, ...]:
        """Shape of a tensor, where each free axis has its size in the file."""
        return self.tensor(index).shape

    def rank(self, index: int) -> int:
        """Number of axes."""
        return self.tensor(index).rank

    def quantized(self, index: int) -> bool:
        """Whether it is stored in integers with a scale."""
        return self.tensor(index).quantization is not None

    def dtype(self, index: int) -> np.dtype[Any]:
        """What nodes compute it in: float32 where it is quantized."""
        tensor = self.tensor(index)
        if tensor.quantization is not None:
            return FLOAT
        if tensor.data is not None and tensor.dtype in _WIDENED:
            return FLOAT
        return numpy_dtype(_held_in(tensor.dtype))

    def is_constant(self, index: int) -> bool:
        """Whether it is known now."""
        return self.tensor(index).data is not None

    def array(self, index: int, what: str) -> np.ndarray:
        """Elements of a constant, real ones; Unsupported where it is computed at run time."""
        tensor = self.tensor(index)
        if tensor.data is None:
            raise Unsupported(f"its {what} is not constant")
        found = tensor.quantization
        if found is None:
            return tensor.data
        along = [1] * tensor.rank
        if not found.per_tensor:
            along[found.axis] = -1
        point, scale = found.zero_point.reshape(along), found.scale.reshape(along)
        real: np.ndarray = ((tensor.data - point) * scale).astype(FLOAT)
        return real

    def ints(self, index: int, what: str) -> list[int]:
        """Elements of a constant list of whole numbers."""
        found = self.array(index, what)
        if found.dtype.kind not in "iu":
            raise Unsupported(f"its {what} is of {found.dtype}")
        numbers: list[int] = found.reshape(-1).tolist()
        return numbers

    def axis(self, number: int, rank: int) -> int:
        """An axis that may count from the end, as one that does not."""
        if not -rank <= number < rank:
            raise Unsupported(f"axis {number} of {rank}")
        return number % rank

    # Values

    def perm(self, index: int) -> Perm:
        """The order that a tensor's axes are in; its own for a constant, which has any."""
        found = self.stored.get(index)
        return layout.identity(self.rank(index)) if found is None else found.perm

    def read(self, index: int, perm: Perm | None = None, rank: int | None = None) -> str:
        """The (real) value of a tensor with its axes in this order, its own where none.

        With ``rank``, axes of size 1 are put before its own, and the order is of all of them.
        """
        tensor = self.tensor(index)
        more = 0 if rank is None else rank - tensor.rank
        want = layout.identity(tensor.rank + more) if perm is None else perm
        if tensor.data is not None:
            name, quantization = self._constant(tensor, want, more)
        else:
            name, quantization = self._placed(index, want, more), tensor.quantization
        if quantization is None:
            return name
        if tensor.data is None:
            return self.dequantized(name, *_unsigned(quantization, tensor.dtype))
        return self.dequantized(name, quantization, _held_in(tensor.dtype))

    def _constant(self, tensor: Tensor, perm: Perm, more: int) -> tuple[str, Quantization | None]:
        key = (tensor.index, perm, more)
        if key not in self._held:
            found = tensor.quantization
            data = self._elements(tensor)
            if more > 0:
                data = data.reshape((1,) * more + data.shape)
            if found is not None and not found.per_tensor:
                found = Quantization(found.scale, found.zero_point, perm.index(found.axis + more))
            self._held[key] = self.constant(data.transpose(perm), tensor.name), found
        return self._held[key]

    @staticmethod
    def _elements(tensor: Tensor) -> np.ndarray:
        if tensor.data is None:
            raise Unsupported(f"{tensor.name} is not constant")
        # Converters keep weights in float16 to make files small; it is not computed in.
        return tensor.data.astype(FLOAT) if tensor.dtype in _WIDENED else tensor.data

    def _placed(self, index: int, perm: Perm, more: int) -> str:
        value = self.stored[index]
        if not more:
            return self.moved(value.name, layout.transposition(value.perm, perm))
        plain = self.moved(
            value.name, layout.transposition(value.perm, layout.identity(len(value.perm)))
        )
        wide = self.emit("Unsqueeze", [plain, self.longs(*range(more))])
        return self.moved(wide, perm)

    def moved(self, name: str, order: Perm) -> str:
        """A value with its axes in another order."""
        if order == layout.identity(len(order)):
            return name
        key = (name, order)
        if key not in self._moved:
            self._moved[key] = self.emit("Transpose", [name], perm=list(order))
        return self._moved[key]

    def bind(self, index: int, name: str, perm: Perm | None = None) -> None:
        """Say which (real) value a tensor has; it is quantized where the file does so."""
        tensor = self.tensor(index)
        if tensor.quantization is not None:
            form = _unsigned(tensor.quantization, tensor.dtype)
            name = self._quantized(name, *form, tensor.name)
        self.bind_stored(index, name, perm)

    def bind_stored(self, index: int, name: str, perm: Perm | None = None) -> None:
        """Say which value holds a tensor as it is stored."""
        order = layout.identity(self.rank(index)) if perm is None else perm
        if len(order) != self.rank(index):
            raise Unsupported(f"writes {self.rank(index)} axes instead of {len(order)}")
        self.stored[index] = Value(name, order)

    def bind_constant(self, index: int, source: int) -> None:
        """Say that a tensor is a constant in another form: whoever reads it reads that."""
        held = self.tensor(source)
        self.program.tensors[index] = replace(held, index=index, name=self.tensor(index).name)

    def requantized(self, name: str, index: int) -> str:
        """A real value put through the scale of a tensor and back: QDQ, as runtimes fuse it."""
        tensor = self.tensor(index)
        if tensor.quantization is None:
            return name
        form = _unsigned(tensor.quantization, tensor.dtype)
        return self.dequantized(self._quantized(name, *form, tensor.name), *form)

    def bind_input(self, index: int) -> None:
        """An input of the graph, which is stored in the file's own integers."""
        tensor = self.tensor(index)
        if tensor.quantization is None or tensor.dtype not in _SHIFTED:
            self.bind_stored(index, tensor.name)
            return
        self.bind(index, self.dequantized(tensor.name, tensor.quantization, tensor.dtype))

    def output(self, index: int) -> str:
        """The value of an output of the graph, in the file's own integers and order of axes."""
        tensor = self.tensor(index)
        value = self.stored[index]
        found = self.moved(
            value.name, layout.transposition(value.perm, layout.identity(tensor.rank))
        )
        quantization = tensor.quantization
        if quantization is None or tensor.dtype not in _SHIFTED:
            return found
        real = self.dequantized(found, *_unsigned(quantization, tensor.dtype))
        return self._quantized(real, quantization, tensor.dtype, tensor.name)

    def _quantized(self, name: str, found: Quantization, dtype: str, of: str) -> str:
        if not found.per_tensor:
            raise Unsupported(f"{of} is an activation with a scale per channel")
        scale, point = self.number(found.scale[0]), self.number(found.zero_point[0], dtype)
        return self.emit("QuantizeLinear", [name, scale, point])

    def dequantized(self, name: str, found: Quantization, dtype: str) -> str:
        """The real value of integers of this type."""
        key = (name, -1 if found.per_tensor else found.axis)
        if key not in self._real:
            if found.per_tensor:
                inputs = [self.number(found.scale[0])]
                along = {}
            else:
                inputs = [self.number(found.scale)]
                along = {"axis": found.axis}
            if dtype != "int32":  # which has no zero point
                points = found.zero_point[0] if found.per_tensor else found.zero_point
                inputs.append(self.number(points, dtype))
            self._real[key] = self.emit("DequantizeLinear", [name, *inputs], **along)
        return self._real[key]

    # Nodes

    def constant(self, data: np.ndarray, name: str = "") -> str:
        """An initializer."""
        self._bytes += data.nbytes
        if self._bytes > _MAX_GROWTH * self.file_bytes + _SLACK_BYTES:
            raise Unsupported("constants that are read again and again")
        name = self.named(name or f"{self.source}/constant")
        self.constants[name] = np.asarray(data, order="C")
        return name

    def number(self, value: object, dtype: Any = FLOAT) -> str:
        """A small constant; equal ones are kept once."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._numbers:
            self._numbers[key] = self.constant(array, f"constant_{len(self._numbers)}")
        return self._numbers[key]

    def longs(self, *numbers: int) -> str:
        """A constant list of int64: a shape, axes, paddings."""
        return self.number(list(numbers), np.int64)

    @overload
    def emit(self, op: str, inputs: Sequence[str], **attributes: Any) -> str: ...

    @overload
    def emit(
        self, op: str, inputs: Sequence[str], outputs: int, **attributes: Any
    ) -> list[str]: ...

    def emit(
        self, op: str, inputs: Sequence[str], outputs: int | None = None, **attributes: Any
    ) -> str | list[str]:
        """Add a node and return the name of its output, or of all where their number is given."""
        label = self.named(f"{self.source}/{op}")
        names = [label] if outputs is None else [f"{label}:{at}" for at in range(outputs)]
        self._taken.update(names)
        self.nodes.append(helper.make_node(op, inputs, names, label, **attributes))
        return label if outputs is None else names

    def named(self, wanted: str) -> str:
        """A name that nothing else has."""
        name, number = wanted, 0
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name


def _unsigned(found: Quantization, dtype: str) -> tuple[Quantization, str]:
    """Integers of activations as ONNX Runtime fuses them on every processor: exactly 128 more."""
    if dtype not in _SHIFTED:
        return found, dtype
    return Quantization(found.scale, found.zero_point + 128, found.axis), "uint8"


def _held_in(dtype: str) -> str:
    """int4 is unpacked; float16 constants are widened."""
    return "int8" if dtype == "int4" else dtype
