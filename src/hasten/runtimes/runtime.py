"""What a runtime is: the protocol that each file in this room implements, and its types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
import numpy as np

from hasten.graph import Signature, TorchSource

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["Arrays", "Execution", "Format", "Hint", "Lowered", "Probe", "Runtime", "Session"]

#: Tensors by name, C-contiguous.
Arrays = dict[str, np.ndarray]

#: What a model is on disk.
Format = Literal["onnx", "tflite", "pt2", "null"]

#: The precision a runtime may compute float operators in; ``default`` leaves it to the runtime.
Hint = Literal["default", "f32", "bf16", "f16"]


class Execution(msgspec.Struct, frozen=True):
    """How a model is run: ``instances`` sessions side by side, each with ``threads`` threads."""

    threads: int = 1
    instances: int = 1
    batch: int = 1
    hint: Hint = "default"
    device: str = "cpu"

    def __str__(self) -> str:
        words = [f"{self.threads}t"]
        if self.instances > 1:
            words.insert(0, f"{self.instances}x")
        if self.batch > 1:
            words.append(f"b{self.batch}")
        if self.hint != "default":
            words.append(self.hint)
        return " ".join(words)


class Probe(msgspec.Struct, frozen=True):
    """What was found of a runtime here: a version and its precisions, or the reason for neither.

    ``int8_saturates`` says that its int8 kernels need weights of 7 bits on this processor.
    """

    available: bool
    version: str = ""
    hints: tuple[Hint, ...] = ("default",)
    int8_saturates: bool = False
    reason: str = ""


class Lowered(msgspec.Struct, frozen=True):
    """A model on disk in the form that one runtime opens.

    ``path`` is absolute; ``torch`` is set where PyTorch runs the original source.
    """

    path: str
    format: Format
    signature: Signature
    torch: TorchSource | None = None

    @property
    def size_bytes(self) -> int:
        """Size of the file; 0 where the model is a callable and has no file."""
        return Path(self.path).stat().st_size if self.path else 0


class Session(Protocol):
    """A model ready to run. One thread at a time may call it; several sessions run in parallel."""

    def run(self, feed: Arrays) -> Arrays:
        """Run once and read all outputs; raises RuntimeFailureError when the runtime fails."""
        ...

    def close(self) -> None:
        """Free what the session holds. It must not be used afterwards."""
        ...


class Runtime(Protocol):
    """A way to run models. Making one imports no vendor library; the methods may."""

    name: str
    #: Formats of lowered files that it opens.
    reads: tuple[Format, ...]
    #: Seconds that opening a session typically takes where that is long enough to plan for.
    open_s: float

    def probe(self) -> Probe:
        """Tell whether the runtime is usable here, and with which precisions."""
        ...

    def supports(self, model: Model) -> list[str]:
        """Reasons why this runtime cannot take the model; empty where it can try."""
        ...

    def lower(self, model: Model, folder: Path) -> Lowered:
        """Write the model into ``folder`` as this runtime wants it. Writes each model once."""
        ...

    def open(self, lowered: Lowered, execution: Execution) -> Session:
        """Compile; raises RuntimeFailureError in one line when the runtime cannot."""
        ...
