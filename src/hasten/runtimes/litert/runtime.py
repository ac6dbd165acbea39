"""LiteRT as a runtime: what it takes, what it writes, and which session runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hasten.errors import RefusedError
from hasten.graph import control_flow
from hasten.runtimes.litert.devices import devices
from hasten.runtimes.litert.file import lower_to_file
from hasten.runtimes.runtime import NO_DELEGATE, Device, Execution, Format, Hint, Lowered, Probe
from hasten.runtimes.vendor import find, lower_as_file

if TYPE_CHECKING:
    from pathlib import Path

    from hasten.graph import Model
    from hasten.runtimes.runtime import Session

__all__ = ["LiteRT"]


class LiteRT:
    """ONNX graphs are lowered to .tflite; .tflite files run as they are."""

    name = "litert"
    reads: tuple[Format, ...] = ("tflite",)
    open_s = 0.0
    any_batch = False

    def probe(self) -> Probe:
        """Find the package, and the devices that it can reach; ``f16`` is a matter of weights."""
        found = find("ai_edge_litert", "ai-edge-litert", hints=("default", "f16"))
        if not found.available:
            return found
        reached = (Device("cpu", description="XNNPACK and builtin kernels"), *devices())
        return msgspec.structs.replace(
            found, int8_signed=True, delegates=(NO_DELEGATE,), devices=reached
        )

    def supports(self, model: Model) -> list[str]:
        """Take every .tflite, and every graph without branches, loops and sequences."""
        if model.original.format == "tflite":
            return []
        return [f"litert has no equal of {one}" for one in control_flow(model.graph)]

    def lower(self, model: Model, folder: Path, hint: Hint = "default") -> Lowered:
        """Write the .tflite; with ``f16`` its large weights are halved.

        Raises RefusedError with each node that has no equal in TFLite.
        """
        if model.original.format == "onnx":
            return lower_to_file(model, folder, half=hint == "f16")
        if hint == "f16":
            raise RefusedError("the weights of a .tflite stay as they are")
        return lower_as_file(model.original, folder)

    def open(self, lowered: Lowered, execution: Execution) -> Session:
        """Compile for the execution's device; instances on the processor share their weights."""
        if execution.device != "cpu" or _shares_weights(execution):
            from hasten.runtimes.litert.compiled import open_compiled

            return open_compiled(lowered, execution)
        from hasten.runtimes.litert.interpreter import open_interpreter

        return open_interpreter(lowered, execution)


def _shares_weights(execution: Execution) -> bool:
    return execution.instances > 1 and not execution.delegate
