"""ONNX Runtime on the CPU: reads float and QDQ graphs as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.runtimes.runtime import Arrays, Execution, Format, Hint, Lowered, Probe
from hasten.runtimes.saturation import saturates
from hasten.runtimes.vendor import cpu_flags, find, lower_as_file, reported

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime

    from hasten.graph import Model

__all__ = ["OnnxRuntime", "OnnxRuntimeSession"]

_RUNNING = reported("onnxruntime could not run")


class OnnxRuntime:
    """Sessions never spin: an idle session that spins burns a core its neighbours need.

    One that is not ``optimized`` runs each node as the graph has it: nothing is fused, and the
    pairs of a quantized graph are computed in float, which is what integer kernels approximate.
    """

    name = "onnxruntime"
    reads: tuple[Format, ...] = ("onnx",)
    open_s = 0.0

    def __init__(self, *, optimized: bool = True) -> None:
        self._optimized = optimized

    def probe(self) -> Probe:
        """Find the package; bf16 matrix products exist on Arm with the bf16 extension only."""
        hints: tuple[Hint, ...] = ("default",)
        flags = cpu_flags()
        if {"asimd", "bf16"} <= flags:
            hints = ("default", "bf16")
        return find("onnxruntime", "onnxruntime", hints=hints, int8_saturates=saturates(flags))

    def supports(self, model: Model) -> list[str]:
        """Take every ONNX graph; what it cannot compile it says when opened."""
        return [] if model.format == "onnx" else ["reads .onnx, not .tflite"]

    def lower(self, model: Model, folder: Path, hint: Hint = "default") -> Lowered:
        """Write the graph as it is."""
        del hint
        return lower_as_file(model, folder)

    def open(self, lowered: Lowered, execution: Execution) -> OnnxRuntimeSession:
        """Compile, with all graph optimizations unless it was made without."""
        with reported("onnxruntime could not compile"):
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = execution.threads
            options.inter_op_num_threads = 1
            options.log_severity_level = 4
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
            if not self._optimized:
                level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
                options.graph_optimization_level = level
            if execution.hint == "bf16":
                options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
            session = onnxruntime.InferenceSession(
                lowered.path, options, providers=["CPUExecutionProvider"]
            )
        return OnnxRuntimeSession(session, [spec.name for spec in lowered.signature.outputs])


class OnnxRuntimeSession:
    """One InferenceSession."""

    def __init__(self, session: onnxruntime.InferenceSession, outputs: list[str]) -> None:
        self._session = session
        self._outputs = outputs

    def run(self, feed: Arrays) -> Arrays:
        """Run once; all outputs, in the model's order."""
        with _RUNNING:
            values = self._session.run(self._outputs, feed)
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Drop the session; ONNX Runtime frees it with the last reference."""
        del self._session
