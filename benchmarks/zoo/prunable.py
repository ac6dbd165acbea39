"""Prunable: three channels of ten go, and weights that are solved anew are never worse for it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import hasten
from hasten.compress import PruneChannels
from zoo.answers import answers
from zoo.distance import squared_error
from zoo.row import Finding
from zoo.subject import Subject

__all__ = ["measure"]

_RATIO, _MULTIPLE = 0.3, 4
#: Samples to solve weights with.
_SOLVED_WITH = 32
#: What is within this share of the other is no worse.
_SAME = 1.01


def measure(subject: Subject) -> Iterator[Finding]:
    """Prune twice, with and without reconstruction, and compare with the float model."""
    model = subject.load()
    wanted = answers(model, subject.held_out, "onnxruntime", subject.scratch)
    solved_with = {name: value[:_SOLVED_WITH] for name, value in subject.calibration.items()}
    errors = {}
    for reconstruct in (False, True):
        out = subject.scratch / f"pruned-{reconstruct}.onnx"
        made = hasten.prune(
            model,
            hasten.Data(subject.held_out, calibration=solved_with),
            out=out,
            step=PruneChannels(ratio=_RATIO, multiple=_MULTIPLE, reconstruct=reconstruct),
            way=hasten.Way(rounds=0, cache=False, force=True),
        )
        found = answers(hasten.load(out), subject.held_out, "onnxruntime", subject.scratch)
        errors[reconstruct] = squared_error(found, wanted)
        if not reconstruct:
            before, after = (side.parameters for side in (made.pair.before, made.pair.after))
            finite = math.isfinite(errors[False])
            figures = {"error": errors[False], "parameters": after / before}
            yield Finding("prunable", "met" if finite else "missed", figures)
    worse = errors[True] > _SAME * errors[False]
    yield Finding(
        "reconstructed",
        "missed" if worse else "met",
        {"error": errors[True], "error without": errors[False]},
        f"error {errors[True]:.4g}, {errors[False]:.4g} without" if worse else "",
    )
