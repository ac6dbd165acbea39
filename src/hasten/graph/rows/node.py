"""One node on the way through a graph: its inputs, its attributes, and the shapes it makes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import one_line
from hasten.graph.operators import SHAPED_AS_FIRST, attribute_of, is_default_domain
from hasten.graph.rows.tensor import FIXED, Fixed, Flow, Joined, Rows, Shape, Tensor, Unclear

if TYPE_CHECKING:
    import onnx

__all__ = ["Mixed", "Node", "Undecided"]


class Undecided(Exception):  # noqa: N818 - not an error: the analysis stops here
    """Raised by a rule that cannot tell what a node does with rows; its text says why."""


class Mixed(Exception):  # noqa: N818 - not an error: it is a finding
    """Raised for a node that mixes rows; its text says how."""


@dataclass(frozen=True, eq=False)
class Node:
    """A node with what is known of its inputs, None for those that were left out."""

    proto: onnx.NodeProto
    inputs: Sequence[Tensor | None]
    opset: int

    @property
    def label(self) -> str:
        """What to call it in a message."""
        return self.proto.name or (self.proto.output[0] if self.proto.output else "?")

    @property
    def domain(self) -> str:
        """Its operator set, empty for ONNX's own."""
        return "" if is_default_domain(self.proto.domain) else self.proto.domain

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or the default where it has none."""
        return attribute_of(self.proto, name, default)

    def tensor(self, at: int) -> Tensor | None:
        """Return what is known of an input; None where it was left out."""
        return self.inputs[at] if at < len(self.inputs) else None

    def rows(self, at: int) -> Rows | None:
        """Return where an input holds rows; None where it holds none."""
        tensor = self.tensor(at)
        return tensor.flow if tensor is not None and isinstance(tensor.flow, Rows) else None

    def rank(self, at: int) -> int:
        """Return the number of axes of an input."""
        tensor = self.tensor(at)
        if tensor is None or tensor.shapes is None:
            raise Undecided("a shape is not known")
        return tensor.rank

    def shapes(self, at: int) -> tuple[Shape, Shape]:
        """Return the shapes of an input, for each number of rows."""
        tensor = self.tensor(at)
        if tensor is None or tensor.shapes is None:
            raise Undecided("a shape is not known")
        return tensor.shapes

    def constant(self, at: int) -> NDArray[Any] | None:
        """Return the value of an input that says how, None where it was left out."""
        tensor = self.tensor(at)
        if tensor is None:
            return None
        if tensor.value is None:
            raise Undecided(f"its input {at} is not constant")
        return tensor.value

    def axes(self, at: int, name: str, rank: int) -> tuple[int, ...] | None:
        """Return axes, which an input or an attribute gives, counted from 0; None without any."""
        given = self.constant(at)
        found = self.attribute(name) if given is None else given.reshape(-1).tolist()
        if found is None:
            return None
        many = found if isinstance(found, list | tuple) else [found]
        return tuple(int(axis) + rank if axis < 0 else int(axis) for axis in many)

    def axis(self, rank: int, default: int, name: str = "axis") -> int:
        """Return the attribute that names an axis, counted from 0."""
        axis = int(self.attribute(name, default))
        return axis + rank if axis < 0 else axis

    def stays(self, mixed: Iterable[int], why: str) -> Flow:
        """Leave the rows of the first input where they are, unless that is one of these axes.

        Negative axes count from the end; ``why`` says what the node does to rows that lie there.
        """
        rows = self.rows(0)
        if rows is None:
            return FIXED
        rank = self.rank(0)
        return self.joined(why) if rows.axis in {axis % rank for axis in mixed} else rows

    def joined(self, why: str) -> Joined:
        """Say that rows are mixed here."""
        return Joined(self.label, f"{self.proto.op_type} {why}")

    def unclear(self, why: str) -> Unclear:
        """Say that nothing can be said."""
        return Unclear(self.label, f"{self.proto.op_type}: {why}")

    def all_fixed(self) -> bool:
        """Whether no input depends on the rows or on their number."""
        return all(one is None or isinstance(one.flow, Fixed) for one in self.inputs)

    def inferred(self) -> list[tuple[onnx.TypeProto | None, tuple[Shape, Shape] | None]]:
        """Return kind and shapes of each output, None for those that are left out.

        Raises Undecided where ONNX cannot infer them.
        """
        few, many = self._inferred(0), self._inferred(1)
        found: list[tuple[onnx.TypeProto | None, tuple[Shape, Shape] | None]] = []
        for name in self.proto.output:
            if not name:
                found.append((None, None))
                continue
            if name not in few or name not in many:
                raise Undecided(f"the shape of {name} cannot be inferred")
            shapes = _shape(few[name]), _shape(many[name])
            whole = None if shapes[0] is None or shapes[1] is None else (shapes[0], shapes[1])
            found.append((few[name], whole))
        return found

    def _inferred(self, scenario: int) -> dict[str, onnx.TypeProto]:
        from onnx import defs, helper, numpy_helper, shape_inference

        kinds, constants = {}, {}
        for name, tensor in zip(self.proto.input, self.inputs, strict=True):
            if tensor is None:
                continue
            if tensor.kind is None or tensor.shapes is None:
                raise Undecided(f"the shape of {name} is not known")
            kinds[name] = helper.make_tensor_type_proto(
                tensor.kind.tensor_type.elem_type, tensor.shapes[scenario]
            )
            if tensor.values is not None:
                value = tensor.values[scenario]
                constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
                constants[name].dims[:] = value.shape
        if not self.domain and self.proto.op_type in SHAPED_AS_FIRST:
            return {self.proto.output[0]: kinds[self.proto.input[0]]}
        try:
            schema = defs.get_schema(self.proto.op_type, self.opset, self.domain)
            return dict(
                shape_inference.infer_node_outputs(
                    schema,
                    self.proto,
                    kinds,
                    constants,
                    opset_imports=[helper.make_opsetid(self.domain, self.opset)],
                )
            )
        except Exception as error:  # noqa: BLE001 - of any kind, as malformed nodes make it
            raise Undecided(one_line(error)) from None


def _shape(kind: onnx.TypeProto) -> Shape | None:
    if not kind.HasField("tensor_type") or not kind.tensor_type.HasField("shape"):
        return None
    dims = kind.tensor_type.shape.dim
    if not all(dim.HasField("dim_value") for dim in dims):
        return None
    return tuple(int(dim.dim_value) for dim in dims)
