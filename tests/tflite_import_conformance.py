"""ONNX's own node tests there and back: lowered to .tflite, imported, and run by ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime

import litert_conformance
from hasten.errors import RefusedError
from hasten.graph.tflite import Damaged, import_program, read_program
from hasten.runtimes.litert.lowering import lower_graph
from litert_conformance import Case, Outcome

__all__ = ["there_and_back"]


def there_and_back(case: Case) -> Outcome | None:
    """How a case comes back; None where it is not lowered in the first place."""
    for inputs, outputs in case.data_sets:
        names = [value.name for value in case.model.graph.input]
        feed = dict(zip(names, inputs, strict=True))
        frozen = litert_conformance._frozen(case.model, feed)
        try:
            content = lower_graph(frozen).content
        except RefusedError:
            return None
        outcome = _back(case, content, feed, outputs)
        if outcome.status != "passed":
            return outcome
    return Outcome("passed")


def _back(
    case: Case, content: bytes, feed: dict[str, np.ndarray], outputs: list[np.ndarray]
) -> Outcome:
    try:
        graph = import_program(read_program(content), "net", len(content))
        onnx.checker.check_model(graph)
    except (RefusedError, Damaged) as refused:
        return Outcome("refused", str(refused))
    try:
        found = _run(graph, feed)
    except Exception as error:  # noqa: BLE001 - the runtime's own errors have no common class
        return Outcome("failed", " ".join(str(error).split())[:200])
    for want, have in zip(outputs, found, strict=True):
        if have.dtype != want.dtype or have.shape != want.shape:
            return Outcome("wrong", f"{have.dtype}{have.shape} instead of {want.dtype}{want.shape}")
        if not np.allclose(have, want, max(case.rtol, 1e-4), max(case.atol, 1e-5), equal_nan=True):
            return Outcome(
                "wrong", f"off by {np.abs(np.float64(have) - np.float64(want)).max():.3g}"
            )
    return Outcome("passed")


def _run(graph: onnx.ModelProto, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    wanted = {value.name for value in session.get_inputs()}
    found: list[np.ndarray] = session.run(
        None, {name: array for name, array in feed.items() if name in wanted}
    )
    return found
