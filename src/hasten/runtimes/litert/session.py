"""LiteRT with XNNPACK: runs .tflite files as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.runtimes.runtime import Arrays, Execution, Format, Lowered, Probe
from hasten.runtimes.vendor import find, lower_as_file, reported

if TYPE_CHECKING:
    from pathlib import Path

    from ai_edge_litert.interpreter import Interpreter

    from hasten.graph import Model

__all__ = ["LiteRT", "LiteRTSession"]

_RUNNING = reported("litert could not run")


class LiteRT:
    """The interpreter with its built-in XNNPACK delegate."""

    name = "litert"
    reads: tuple[Format, ...] = ("tflite",)
    open_s = 0.0

    def probe(self) -> Probe:
        """Find the package."""
        return find("ai_edge_litert", "ai-edge-litert")

    def supports(self, model: Model) -> list[str]:
        """Take .tflite only."""
        return [] if model.original.format == "tflite" else ["reads .tflite, not .onnx"]

    def lower(self, model: Model, folder: Path) -> Lowered:
        """Write the file as it is."""
        return lower_as_file(model.original, folder)

    def open(self, lowered: Lowered, execution: Execution) -> LiteRTSession:
        """Allocate an interpreter."""
        with reported("litert could not compile"):
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_path=lowered.path, num_threads=execution.threads)
            interpreter.allocate_tensors()
            return LiteRTSession(interpreter, lowered)


class LiteRTSession:
    """One interpreter; free dimensions take the shape of each feed."""

    def __init__(self, interpreter: Interpreter, lowered: Lowered) -> None:
        self._interpreter = interpreter
        specs = lowered.signature
        details = interpreter.get_input_details()
        self._inputs = {
            spec.name: detail["index"] for spec, detail in zip(specs.inputs, details, strict=True)
        }
        self._shapes: dict[str, tuple[int, ...]] = {
            spec.name: tuple(detail["shape"])
            for spec, detail in zip(specs.inputs, details, strict=True)
        }
        self._outputs = {
            spec.name: detail["index"]
            for spec, detail in zip(specs.outputs, interpreter.get_output_details(), strict=True)
        }

    def run(self, feed: Arrays) -> Arrays:
        """Run once; outputs are copied out of the interpreter's arena."""
        interpreter = self._interpreter
        with _RUNNING:
            self._resize({name: feed[name].shape for name in self._inputs})
            for name, index in self._inputs.items():
                interpreter.set_tensor(index, feed[name])
            interpreter.invoke()
            return {name: interpreter.get_tensor(at) for name, at in self._outputs.items()}

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = {}  # until all is allocated anew, no feed fits
        for name, index in self._inputs.items():
            self._interpreter.resize_tensor_input(index, shapes[name], strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def close(self) -> None:
        """Drop the interpreter; it frees its arena with the last reference."""
        del self._interpreter
