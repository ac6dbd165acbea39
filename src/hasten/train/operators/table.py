"""What an entry in the table of operators is, and what it sees of its node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from hasten.graph.operators import is_default_domain, operator_label

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["Mode", "Node", "Operator", "Refusal", "integers", "together"]


@dataclass
class Mode:
    """How a module runs just now: whether batch norms use the batch, and whether it trains."""

    training: bool = False
    batch_norm_frozen: bool = False


@dataclass(eq=False)
class Node:
    """One node of the graph: its attributes as Python values, and the mode of its module.

    The statistics of one that is ``frozen`` stay.
    """

    proto: onnx.NodeProto
    opset: int
    mode: Mode
    frozen: bool = False
    attributes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        from onnx import helper

        self.attributes = {
            each.name: helper.get_attribute_value(each) for each in self.proto.attribute
        }

    @property
    def kind(self) -> str:
        """The operator: ``Conv``, or ``domain::Op`` outside ONNX's own domain."""
        domain = self.proto.domain
        return (
            self.proto.op_type if is_default_domain(domain) else f"{domain}::{self.proto.op_type}"
        )

    @property
    def label(self) -> str:
        """The operator with the name of the node, for messages."""
        return operator_label(self.proto)

    def integer(self, name: str, default: int = 0) -> int:
        """Return an integer attribute."""
        return int(self.attributes.get(name, default))

    def number(self, name: str, default: float) -> float:
        """Return a float attribute."""
        return float(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def integers(self, name: str, default: Iterable[int]) -> list[int]:
        """Return a list of integers."""
        return [int(each) for each in self.attributes.get(name, default)]


#: Computes a node from its inputs, None for one that is left out, so that gradients flow through.
Operator: TypeAlias = "Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]"

#: Says why a node cannot be taken though its operator is in the table; empty where it can.
Refusal: TypeAlias = Callable[[Node], str]


def integers(value: torch.Tensor | None, default: Iterable[int] = ()) -> list[int]:
    """Return the values of a shape, axes or indices input; the default where it is left out."""
    if value is None:
        return [int(each) for each in default]
    return [int(each) for each in value.reshape(-1).tolist()]


def together(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Bring values to one device: integers of shape arithmetic stay on the CPU until here."""
    devices = {value.device for value in values if value.ndim}
    if len(devices) < 2:  # noqa: PLR2004 - torch mixes scalars of the CPU with any device itself
        return values
    device = next(each for each in devices if each.type != "cpu")
    return tuple(value.to(device) for value in values)
