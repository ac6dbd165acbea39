"""OpenVINO on the CPU: reads ONNX, float and QDQ, and .tflite; bf16 and f16 as precision hints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from hasten.runtimes.runtime import Arrays, Execution, Format, Hint, Lowered, Probe
from hasten.runtimes.saturation import saturates
from hasten.runtimes.vendor import cpu_flags, find, lower_as_file, reported

if TYPE_CHECKING:
    from pathlib import Path

    import openvino

    from hasten.graph import Model

__all__ = ["OpenVino", "OpenVinoSession"]

_RUNNING = reported("openvino could not run")
#: What it says of a graph that it has no kernels for in the precision that it chose.
_NO_KERNEL = "No suitable implementations"

_CAPABILITY_HINTS: dict[str, Hint] = {"FP32": "f32", "BF16": "bf16", "FP16": "f16"}


class OpenVino:
    """One infer request a session; f32 is asked for by name, since the default may be bf16."""

    name = "openvino"
    reads: tuple[Format, ...] = ("onnx", "tflite")
    open_s = 0.0
    any_batch = False

    def probe(self) -> Probe:
        """Find the package and ask the CPU plugin for the precisions it computes in here."""
        found = find("openvino", "openvino", extra="openvino")
        if not found.available:
            return found
        import openvino

        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hints = tuple(hint for name, hint in _CAPABILITY_HINTS.items() if name in capabilities)
        return msgspec.structs.replace(found, hints=hints, int8_saturates=saturates(cpu_flags()))

    def supports(self, model: Model) -> list[str]:
        """Take both formats; what it cannot compile it says when opened."""
        del model
        return []

    def lower(self, model: Model, folder: Path, hint: Hint = "default") -> Lowered:
        """Write the graph as it is."""
        del hint
        return lower_as_file(model, folder)

    def open(self, lowered: Lowered, execution: Execution) -> OpenVinoSession:
        """Compile for the latency of one request."""
        with reported("openvino could not compile", extra="openvino"):
            import openvino

            config = {
                "PERFORMANCE_HINT": "LATENCY",
                "NUM_STREAMS": "1",
                "INFERENCE_NUM_THREADS": str(execution.threads),
                # Several instances pinned by one rule would share the same cores.
                "ENABLE_CPU_PINNING": "NO",
            }
            request = _compiled(openvino.Core(), lowered.path, config, execution.hint)
        return OpenVinoSession(request, lowered)


def _compiled(
    core: openvino.Core, path: str, config: dict[str, str], hint: Hint
) -> openvino.InferRequest:
    """Compile a model, in float32 where OpenVINO's own choice of precision has no kernel.

    On processors with AMX that choice is bf16, in which it refuses convolutions of signed 8 bits.
    """
    wanted = {} if hint == "default" else {"INFERENCE_PRECISION_HINT": hint}
    try:
        compiled = core.compile_model(path, "CPU", config | wanted)
    except RuntimeError as error:
        if hint != "default" or _NO_KERNEL not in str(error):
            raise
        exact = config | {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = core.compile_model(path, "CPU", exact)
    return compiled.create_infer_request()


class OpenVinoSession:
    """One infer request; inputs are shared with the caller's arrays, outputs are copied out."""

    def __init__(self, request: openvino.InferRequest, lowered: Lowered) -> None:
        self._request = request
        # By position: an importer may have merged or renamed tensor names.
        self._inputs = [spec.name for spec in lowered.signature.inputs]
        self._outputs = [spec.name for spec in lowered.signature.outputs]

    def run(self, feed: Arrays) -> Arrays:
        """Run once; all outputs, in the model's order, as arrays of their own."""
        with _RUNNING:
            values = self._request.infer(
                [feed[name] for name in self._inputs], share_inputs=True, share_outputs=False
            )
            return {name: values[at] for at, name in enumerate(self._outputs)}

    def close(self) -> None:
        """Drop the request; OpenVINO frees it with the last reference."""
        del self._request
