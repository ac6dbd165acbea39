"""ONNX Runtime on the CPU: reads float and QDQ graphs as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hasten.errors import RuntimeFailureError
from hasten.graph import Signature, numpy_dtype
from hasten.runtimes.binding import shapes_at
from hasten.runtimes.runtime import Arrays, Binding, Execution, Format, Hint, Lowered, Probe
from hasten.runtimes.saturation import saturates
from hasten.runtimes.vendor import cpu_flags, find, lower_as_file, reported

if TYPE_CHECKING:
    from pathlib import Path

    import onnxruntime

    from hasten.graph import Model

__all__ = ["OnnxRuntime", "OnnxRuntimeBinding", "OnnxRuntimeSession"]

_RUNNING = reported("onnxruntime could not run")
#: Dtypes that NumPy alone does not have, by their numbers in onnx.proto.
_ONNX_TYPES = {"bfloat16": 16}


class OnnxRuntime:
    """Sessions never spin: an idle session that spins burns a core its neighbours need.

    One that is not ``optimized`` runs each node as the graph has it: nothing is fused, and the
    pairs of a quantized graph are computed in float, which is what integer kernels approximate.
    """

    name = "onnxruntime"
    reads: tuple[Format, ...] = ("onnx",)
    open_s = 0.0
    any_batch = True

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
            run_options = onnxruntime.RunOptions()
            # No graph is captured; without the entry each bound run looks for it, for 0.1 ms.
            run_options.add_run_config_entry("gpu_graph_id", "-1")
        return OnnxRuntimeSession(session, lowered.signature, run_options)


class OnnxRuntimeSession:
    """One InferenceSession."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        run_options: onnxruntime.RunOptions,
    ) -> None:
        self._session = session
        self._signature = signature
        self._run_options = run_options
        self._outputs = [spec.name for spec in signature.outputs]
        specs = (*signature.inputs, *signature.outputs)
        #: Whether there are dtypes that ONNX Runtime takes and gives by their address alone.
        self._only_bound = any(spec.dtype in _ONNX_TYPES for spec in specs)

    def run(self, feed: Arrays) -> Arrays:
        """Run once; all outputs, in the model's order."""
        if self._only_bound:
            return self._run_bound(feed)
        with _RUNNING:
            values = self._session.run(self._outputs, feed, self._run_options)
        return dict(zip(self._outputs, values, strict=True))

    def bind(self, rows: int) -> Binding | None:
        """Return memory for runs of so many rows; None where shapes depend on more than them."""
        signature = self._signature
        shapes = shapes_at(signature, rows)
        dtypes = {spec.dtype for spec in (*signature.inputs, *signature.outputs)}
        kinds = {numpy_dtype(one).kind for one in dtypes - _ONNX_TYPES.keys()}
        if shapes is None or not kinds <= set("biuf"):
            return None
        with reported("onnxruntime could not bind"):
            return OnnxRuntimeBinding(self._session, self._run_options, signature, *shapes)

    def _run_bound(self, feed: Arrays) -> Arrays:
        rows = {array.shape[0] for array in feed.values() if array.ndim}
        binding = self.bind(max(rows, default=1))
        arrays = [feed[spec.name] for spec in self._signature.inputs]
        places = binding.inputs() if binding is not None else ()
        if binding is None or [one.shape for one in arrays] != [one.shape for one in places]:
            raise RuntimeFailureError(
                "onnxruntime could not run: bfloat16 needs shapes that only the batch decides"
            )
        for place, array in zip(places, arrays, strict=True):
            np.copyto(place, array)
        binding.run()
        return dict(zip(self._outputs, binding.outputs(), strict=True))

    def stop(self, *, asked: bool) -> None:
        """Have the run that goes on, and all that follow, fail after their current node.

        They do until this is called with ``asked`` False. Any thread may call it.
        """
        self._run_options.terminate = asked

    def close(self) -> None:
        """Drop the session; ONNX Runtime frees it with the last reference."""
        del self._session


class OnnxRuntimeBinding:
    """One IoBinding: the session reads and writes these arrays, and nothing is copied."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        run_options: onnxruntime.RunOptions,
        signature: Signature,
        inputs: list[tuple[int, ...]],
        outputs: list[tuple[int, ...]],
    ) -> None:
        self._run = session.run_with_iobinding
        self._run_options = run_options
        self._binding = session.io_binding()
        self._inputs = tuple(
            np.zeros(shape, numpy_dtype(spec.dtype))
            for spec, shape in zip(signature.inputs, inputs, strict=True)
        )
        self._outputs = tuple(
            np.zeros(shape, numpy_dtype(spec.dtype))
            for spec, shape in zip(signature.outputs, outputs, strict=True)
        )
        for spec, array in zip(signature.inputs, self._inputs, strict=True):
            kind = _ONNX_TYPES.get(spec.dtype, array.dtype.type)
            place = ("cpu", 0, kind, array.shape, array.ctypes.data)
            self._binding.bind_input(spec.name, *place)
        for spec, array in zip(signature.outputs, self._outputs, strict=True):
            kind = _ONNX_TYPES.get(spec.dtype, array.dtype.type)
            place = ("cpu", 0, kind, array.shape, array.ctypes.data)
            self._binding.bind_output(spec.name, *place)

    def inputs(self) -> tuple[np.ndarray, ...]:
        """Arrays to fill."""
        return self._inputs

    def run(self) -> None:
        """Run on what was filled in."""
        with _RUNNING:
            self._run(self._binding, self._run_options)

    def outputs(self) -> tuple[np.ndarray, ...]:
        """Arrays to read."""
        return self._outputs
