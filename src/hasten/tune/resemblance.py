"""Whether two subjects answer alike: each output of the second against the first's, by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hasten.conversion import first_noisy
from hasten.data import OutputScore, Samples
from hasten.data.answers import Answers
from hasten.data.fidelity import FLOOR_DB, score_outputs
from hasten.data.meaning import OutputKind, find_meanings
from hasten.errors import HastenError
from hasten.graph import Model, read_onnx
from hasten.measure.clock import Deadline
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.prediction import Predictions
from hasten.tune.subject import Subject

if TYPE_CHECKING:
    import onnx

__all__ = ["Resemblance", "resemblance"]

#: Samples on which is looked for where two graphs part.
_DRIFT_SAMPLES = 4


class Resemblance(msgspec.Struct, frozen=True):
    """How alike two answer: ``outputs`` of the second, or ``reason`` why they were not compared.

    ``drift`` names the first tensor that parts, where both are graphs and an output does.
    """

    outputs: tuple[OutputScore, ...] = ()
    drift: str = ""
    reason: str = ""

    def parting(self, tolerance: float) -> list[str]:
        """Say which outputs lose more than is allowed, a share from 0 to 1."""
        if self.reason:
            return [f"the outputs were not compared: {self.reason}"]
        return [
            f"output '{one.output}' ({one.kind}) keeps {one.kept:.2%}"
            f"{f' and is ruined: {one.broken}' if one.broken else ''}"
            for one in self.outputs
            if 1 - one.kept > tolerance
        ]


def resemblance(
    a: Subject, b: Subject, scratch: Path, kinds: Mapping[str, OutputKind], tolerance: float
) -> Resemblance:
    """Run both on the samples of the first, one by one, and compare each output.

    ``kinds`` are what the user says outputs are. Models that do not take the same samples, or have
    no outputs in common, are not compared, for that reason.
    """
    samples = Samples.load(a.samples)
    predictions = Predictions(samples, a.samples, scratch, Deadline.after(None))
    try:
        told, axes = predictions.of_reference(_contestant(a))
        said = predictions.of(_contestant(b), axes)
        meanings = find_meanings(told, _graph(a), kinds)
        outputs = score_outputs(_named(said, told), told, meanings, tolerance)
    except HastenError as error:
        return Resemblance(reason=str(error))
    found = Resemblance(outputs)
    if not found.parting(tolerance):
        return found
    return Resemblance(outputs, _drift(a, b, samples, scratch))


def _contestant(subject: Subject) -> Contestant:
    candidate = Candidate((), subject.runtime, subject.execution)
    return Contestant(candidate, None, subject.lowered)


def _named(said: Answers, told: Answers) -> Answers:
    """Return outputs by the first model's names: two of one shape may be called otherwise."""
    if set(told) <= set(said) or len(said) != len(told):
        return said
    return Answers(dict(zip(told, said.values(), strict=True)), said.runs)


def _graph(subject: Subject) -> onnx.ModelProto | None:
    model = _model(subject)
    return None if model is None else model.graph


def _model(subject: Subject) -> Model | None:
    is_graph = subject.lowered.format == "onnx" and subject.lowered.path
    return read_onnx(Path(subject.lowered.path)) if is_graph else None


def _drift(a: Subject, b: Subject, samples: Samples, scratch: Path) -> str:
    one, other = _model(a), _model(b)
    if one is None or other is None or one.signature.inputs != other.signature.inputs:
        return ""
    few = samples.select(range(min(_DRIFT_SAMPLES, len(samples))))
    feeds = [feed for feed, _ in few.batches(one.signature, 1)]
    try:
        found = first_noisy(one, other, feeds, scratch)
    except HastenError:  # the outputs were compared, and that stands
        return ""
    return f"the first to fall below {FLOOR_DB:g} dB is {found}" if found else ""
