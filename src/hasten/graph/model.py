"""The model in the middle: one ONNX graph, with where it came from and what was done to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from hasten.errors import ModelError

if TYPE_CHECKING:
    import onnx

    from hasten.graph.rows import RowVerdict
    from hasten.graph.signature import Signature

__all__ = ["AppliedStep", "Model", "TFLiteSource", "TorchSource"]

#: Protocol buffers cannot hold more than this in one message.
_MAX_PROTO_BYTES = 2**31 - 1


class AppliedStep(msgspec.Struct, frozen=True):
    """A step that has been applied: its name and the settings it ran with."""

    step: str
    config: dict[str, Any] = {}

    def __str__(self) -> str:
        settings = (_text(name, value) for name, value in self.config.items())
        return " ".join([self.step, *filter(None, settings)])


def _text(name: str, value: object) -> str:
    """Return a setting as it stands in a label: words alone, numbers and lists by their name.

    >>> str(AppliedStep("prune_channels", {"ratio": 0.5, "size_ratio": None, "by": "taylor"}))
    'prune_channels ratio=0.5 taylor'
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return f"{name}={','.join(str(one) for one in value)}" if value else ""
    return "" if value is None else f"{name}={value}"


class TorchSource(msgspec.Struct, frozen=True):
    """Where a PyTorch model came from, so that PyTorch itself can run it as the reference.

    ``location`` is the path of a ``.pt2`` file or ``package.module:callable``; ``inputs`` are the
    names of the positional arguments of ``forward`` in order, ``outputs`` the exported names.
    """

    location: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TFLiteSource:
    """The .tflite file a model was read from, so that LiteRT can run it as the reference.

    ``refusal`` says why the file did not come into the graph; empty where it did. ``notes`` say
    where the graph computes in another precision than the file.
    """

    content: bytes
    refusal: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Model:
    """A model in memory: never changed, each step returns a new one.

    ``content`` is an ONNX ModelProto, or the bytes of a .tflite file that has operators without an
    equal, which only runtimes read. ``torch`` and ``tflite`` are the original, where there is one.
    Take care not to change a proto in place: ``digest`` is computed once.
    """

    name: str
    content: onnx.ModelProto | bytes
    signature: Signature
    steps: tuple[AppliedStep, ...] = ()
    torch: TorchSource | None = field(default=None)
    tflite: TFLiteSource | None = field(default=None)

    @property
    def format(self) -> Literal["onnx", "tflite"]:
        """Which of the two kinds of content this is."""
        return "tflite" if isinstance(self.content, bytes) else "onnx"

    @property
    def graph(self) -> onnx.ModelProto:
        """The ONNX graph; raises ModelError for a .tflite, which has none."""
        if isinstance(self.content, bytes):
            raise ModelError(expected="an ONNX graph", got="a .tflite file", where=self.name)
        return self.content

    @property
    def original(self) -> Model:
        """The .tflite file this model is, where no step has changed it; else the model itself."""
        if self.tflite is None or self.steps:
            return self
        return replace(self, content=self.tflite.content)

    @cached_property
    def payload(self) -> bytes:
        """The model as the bytes of its file. Raises ModelError above protobuf's 2 GB."""
        if isinstance(self.content, bytes):
            return self.content
        if self.content.ByteSize() > _MAX_PROTO_BYTES:
            raise ModelError(
                expected="a graph of less than 2 GB",
                got=f"{self.content.ByteSize() / 1e9:.1f} GB",
                where=self.name,
            )
        payload: bytes = self.content.SerializeToString(deterministic=True)
        return payload

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the payload, in hex."""
        return hashlib.sha256(self.payload).hexdigest()

    @cached_property
    def rows(self) -> RowVerdict:
        """Whether rows of the first axis are independent, as far as the graph tells."""
        from hasten.graph.rows import rows_of

        return rows_of(self)

    def evolve(self, graph: onnx.ModelProto, signature: Signature, step: AppliedStep) -> Model:
        """Return the model that this step made of this one."""
        return replace(self, content=graph, signature=signature, steps=(*self.steps, step))
