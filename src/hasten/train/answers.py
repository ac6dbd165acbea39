"""A teacher's answers under the names of the student's outputs, kept where they come again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import FIRST_AXIS, SampleAxis
from hasten.train.outputs import TrainedOutput
from hasten.train.teacher import Teacher, matched

if TYPE_CHECKING:
    from hasten.train.batches import Batch

__all__ = ["TeacherAnswers"]

#: Answers are kept as long as they take no more than this.
_KEPT_BYTES = 256 * 2**20
#: Probabilities become logits by their logarithm, of this at least.
_LEAST_PROBABILITY = 1e-7
_SUM_TOLERANCE = 1e-3


class TeacherAnswers:
    """What a teacher says, for a student whose outputs have the shapes ``wanted``, by name.

    ``feed`` is one to compare both on, of ``together`` samples; ``hints`` are further tensors of
    the teacher. Outputs of the student that are ``trained`` by what goes into their softmax or
    sigmoid are answered under that name too: probabilities become logits. With ``again`` the same
    sample comes in every epoch unchanged, and is answered once. Raises ModelError where the
    teacher's outputs are not the student's.
    """

    def __init__(
        self,
        teacher: Teacher,
        feed: Mapping[str, NDArray[Any]],
        wanted: Mapping[str, tuple[int, ...]],
        *,
        together: int = 1,
        hints: Sequence[str] = (),
        trained: Sequence[TrainedOutput] = (),
        again: bool = False,
    ) -> None:
        self._teacher, self._hints, self._again = teacher, frozenset(hints), again
        self._names = list(wanted)
        self._trained = [one for one in trained if one.tensor != one.name]
        self._axes = {name: one.samples for one in trained for name in (one.name, one.tensor)}
        first = teacher.answer(feed)
        matched(self._outputs(first), wanted)
        self._axes |= {name: FIRST_AXIS for name in hints if first[name].shape[:1] == (together,)}
        self._kept: dict[int, dict[str, NDArray[Any]]] = {}
        self._kept_bytes = 0

    def to(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Ask for the outputs of a feed, under the student's names, and the hints."""
        answers = self._teacher.answer(feed)
        outputs = self._outputs(answers)
        if not set(self._names) <= set(outputs):
            outputs = dict(zip(self._names, outputs.values(), strict=True))
        found = {name: outputs[name] for name in self._names}
        found |= {one.tensor: _logits(outputs[one.name], one) for one in self._trained}
        return found | {name: answers[name] for name in self._hints}

    def to_batch(self, part: Batch) -> dict[str, NDArray[Any]]:
        """Ask for a part of a minibatch, or return what is known of its samples."""
        if self._again and all(index in self._kept for index in part.indices.tolist()):
            known = [self._kept[index] for index in part.indices.tolist()]
            return {
                name: np.stack([one[name] for one in known], axis=self._axes[name].axis or 0)
                for name in known[0]
            }
        found = self.to(part.feed)
        apart = all(self._is_apart(name, one, part.indices.size) for name, one in found.items())
        if self._again and apart and self._kept_bytes < _KEPT_BYTES:
            for at, index in enumerate(part.indices.tolist()):
                self._kept[index] = {
                    name: value.take(at, axis=self._axes[name].axis or 0)
                    for name, value in found.items()
                }
            self._kept_bytes += sum(value.nbytes for value in found.values())
        return found

    def _is_apart(self, name: str, value: NDArray[Any], count: int) -> bool:
        """Return whether each sample has a row of its own along an axis that is known."""
        axis, rows = self._axes.get(name, SampleAxis(None))
        return axis is not None and rows == 1 and value.shape[axis] == count

    def _outputs(self, answers: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {name: value for name, value in answers.items() if name not in self._hints}


def _logits(values: NDArray[Any], output: TrainedOutput) -> NDArray[Any]:
    """Return the logits of probabilities; a teacher without the softmax gives them already."""
    exact = np.asarray(values, np.float64)
    shares = bool((exact >= 0).all() and (exact <= 1 + _SUM_TOLERANCE).all())
    if output.squash == "sigmoid" and shares:
        inside = exact.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
        return np.asarray(np.log(inside / (1 - inside)), values.dtype)
    rows = np.moveaxis(exact, output.samples.axis or 0, 0)
    sums = rows.sum(axis=-1 if output.axis is None else output.axis)
    if output.squash == "softmax" and shares and np.allclose(sums, 1.0, atol=_SUM_TOLERANCE):
        return np.asarray(np.log(np.maximum(exact, _LEAST_PROBABILITY)), values.dtype)
    return values
