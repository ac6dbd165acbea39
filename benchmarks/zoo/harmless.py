"""Harmless changes: the same graph in float by other runtimes, and in bf16 where there is a hint.

Whatever judges answers must not refuse these.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from hasten.data import METRICS
from hasten.errors import HastenError
from hasten.runtimes import get_runtime
from zoo.answers import answers
from zoo.architecture import Arrays
from zoo.distance import relative_error, worst_sqnr_db
from zoo.row import Finding
from zoo.subject import Subject

__all__ = ["measure"]

_CHANGES = (("openvino", "f32"), ("litert", "default"), ("openvino", "bf16"))
#: What the default budget allows to lose.
_MAX_DROP = 0.01


def measure(subject: Subject) -> Iterator[Finding]:
    """Run the same graph in each, and say what fidelity thinks of it."""
    model = subject.load()
    wanted = answers(model, subject.held_out, "onnxruntime", subject.scratch)
    for runtime, hint in _CHANGES:
        part = f"harmless {runtime} {hint}".removesuffix(" default")
        if hint not in get_runtime(runtime).probe().hints:
            continue
        try:
            found = answers(model, subject.held_out, runtime, subject.scratch, hint=hint)
        except HastenError as error:
            yield Finding(part, "refused", {}, str(error))
            continue
        yield _judged(part, found, wanted)


def _judged(part: str, found: Arrays, wanted: Arrays) -> Finding:
    have, want = ({k: _joined(v) for k, v in each.items()} for each in (found, wanted))
    fidelity = METRICS["fidelity"]
    lost = fidelity.evaluate(want, None, want).value - fidelity.evaluate(have, None, want).value
    figures = {
        "lost": lost,
        "error": relative_error(found, wanted),
        "sqnr": worst_sqnr_db(found, wanted),
    }
    reason = f"fidelity {-lost:+.4f}, error {figures['error']:.2g}, {figures['sqnr']:.0f} dB"
    met = lost <= _MAX_DROP
    return Finding(part, "met" if met else "missed", figures, "" if met else reason)


def _joined(values: NDArray[Any]) -> NDArray[Any]:
    """Return runs of one sample each as one batch, as judges see them."""
    return values.reshape(-1, *values.shape[2:]) if values.ndim > 1 else values
