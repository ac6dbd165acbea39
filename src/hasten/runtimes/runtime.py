"""What a runtime is: the protocol that each file in this room implements, and its types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec
import numpy as np

from hasten.graph import Signature, TorchSource

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = [
    "NO_DELEGATE",
    "Arrays",
    "Binding",
    "Device",
    "Execution",
    "Format",
    "Hint",
    "Lowered",
    "Probe",
    "Runtime",
    "Session",
]

#: Tensors by name, C-contiguous.
Arrays = dict[str, np.ndarray]

#: What a model is on disk.
Format = Literal["onnx", "tflite", "pt2", "null"]

#: The precision a runtime may compute float operators in; ``default`` leaves it to the runtime.
Hint = Literal["default", "f32", "bf16", "f16"]

#: The delegate of an execution that wants the runtime's own kernels and nothing else.
NO_DELEGATE = "none"


class Execution(msgspec.Struct, frozen=True):
    """How a model is run: ``instances`` sessions side by side, each with ``threads`` threads.

    ``delegate`` is a library that is handed the operators it can run, with its options, as
    ``lib.so:key=value,key=value``; ``none`` leaves out the one that a runtime brings, and the
    empty text leaves it to the runtime.
    """

    threads: int = 1
    instances: int = 1
    batch: int = 1
    hint: Hint = "default"
    device: str = "cpu"
    delegate: str = ""

    def __str__(self) -> str:
        words = [f"{self.threads}t"]
        if self.instances > 1:
            words.insert(0, f"{self.instances}x")
        if self.batch > 1:
            words.append(f"b{self.batch}")
        if self.hint != "default":
            words.append(self.hint)
        if self.device != "cpu":
            words.append(self.device)
        if self.delegate == NO_DELEGATE:
            words.append("no delegate")
        elif self.delegate:
            words.append(Path(self.delegate).name)
        return " ".join(words)

    @property
    def offload(self) -> tuple[str, str]:
        """Who computes instead of the runtime on the processor: a device, a library, or neither."""
        return self.device, "" if self.delegate == NO_DELEGATE else self.delegate


class Device(msgspec.Struct, frozen=True):
    """Something a runtime may compute on, and the reason where it cannot.

    ``software`` is a processor that plays another device: it is used only when asked for by name.
    """

    name: str
    usable: bool = True
    description: str = ""
    software: bool = False
    reason: str = ""


class Probe(msgspec.Struct, frozen=True):
    """What was found of a runtime here: a version and its precisions, or the reason for neither.

    ``int8_saturates`` says that its int8 kernels need weights of 7 bits on this processor,
    ``int8_signed`` that activations are signed there, whatever a graph has.
    ``delegates`` are further settings of ``Execution.delegate`` that are worth a try; a runtime
    that has any takes libraries too. ``devices`` are all that it knows of, usable or not.
    """

    available: bool
    version: str = ""
    hints: tuple[Hint, ...] = ("default",)
    int8_saturates: bool = False
    int8_signed: bool = False
    reason: str = ""
    delegates: tuple[str, ...] = ()
    devices: tuple[Device, ...] = (Device("cpu"),)

    def device(self, name: str) -> Device:
        """Return the device of this name, one that is not usable where there is none."""
        unknown = Device(name, usable=False, reason=f"it knows no device {name}")
        return next((one for one in self.devices if one.name == name), unknown)


class Lowered(msgspec.Struct, frozen=True):
    """A model on disk in the form that one runtime opens.

    ``path`` is absolute; ``torch`` is set where PyTorch runs the original source. ``nodes`` names
    the node that each operator of the file was made for, where the file is not the graph itself.
    """

    path: str
    format: Format
    signature: Signature
    torch: TorchSource | None = None
    nodes: tuple[str, ...] = ()

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


class Binding(Protocol):
    """Memory for runs of one batch size, filled and read in place, used again and again.

    Arrays are in the order of the signature. What ``inputs`` returns must be let go before
    ``run``; what ``outputs`` returns holds until the next ``run``.
    """

    def inputs(self) -> tuple[np.ndarray, ...]:
        """Arrays to fill."""
        ...

    def run(self) -> None:
        """Run on what was filled in; raises RuntimeFailureError when the runtime fails."""
        ...

    def outputs(self) -> tuple[np.ndarray, ...]:
        """Arrays to read."""
        ...


class Runtime(Protocol):
    """A way to run models. Making one imports no vendor library; the methods may."""

    name: str
    #: Formats of lowered files that it opens.
    reads: tuple[Format, ...]
    #: Seconds that opening a session typically takes where that is long enough to plan for.
    open_s: float
    #: Whether a session takes another batch size at no cost; else there is one for each size.
    any_batch: bool

    def probe(self) -> Probe:
        """Tell whether the runtime is usable here, and with which precisions."""
        ...

    def supports(self, model: Model) -> list[str]:
        """Reasons why this runtime cannot take the model; empty where it can try."""
        ...

    def lower(self, model: Model, folder: Path, hint: Hint = "default") -> Lowered:
        """Write the model into ``folder`` as this runtime wants it, each model once.

        ``hint`` is the precision it is to be run with, where that changes what is written. Raises
        RefusedError with everything in the model that has no equal here.
        """
        ...

    def open(self, lowered: Lowered, execution: Execution) -> Session:
        """Compile; raises RuntimeFailureError in one line when the runtime cannot."""
        ...
