"""Top-1: the share of samples whose label has the largest score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hasten.data.answers import Answers
from hasten.data.metrics.metric import Score, require_finite
from hasten.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from hasten.data.metrics.metric import Outputs

__all__ = ["Top1"]


class Top1(msgspec.Struct, frozen=True):
    """Share of samples whose label is the largest value of the first output's last axis.

    >>> Top1().evaluate({"logits": np.array([[0.1, 0.9], [0.8, 0.2]])}, np.array([1, 1]), None)
    Score(value=0.5, details={'correct': 1.0, 'samples': 2.0}, outputs=())
    """

    name: str = "top1"

    def reads(self, outputs: Sequence[str]) -> Sequence[str]:
        """Return the first one."""
        return outputs[:1]

    def evaluate(
        self,
        outputs: Outputs,
        labels: NDArray[np.int64] | None,
        reference_outputs: Outputs | None = None,  # noqa: ARG002 - labels say all there is to know
    ) -> Score:
        """Judge the first output against the labels."""
        if labels is None:
            raise DataError(expected="labels", got="none", where="metric top1")
        answers = Answers.of(outputs)
        require_finite(answers, "metric top1")
        logits = answers.first.values
        if logits is None:
            raise DataError(
                expected=f"one row of class scores for each of {len(labels)} labels",
                got="rows of varying size",
                where=f"output '{answers.first.name}'",
            )
        predicted = logits.argmax(axis=-1).reshape(-1) if logits.size else np.empty(0, np.int64)
        if predicted.shape != labels.shape:
            raise DataError(
                expected=f"one row of class scores for each of {len(labels)} labels",
                got=f"shape {list(logits.shape)}",
                where=f"output '{answers.first.name}'",
            )
        _require_in_range(labels, logits.shape[-1], answers.first.name)
        correct = float((predicted == labels).sum())
        return Score(correct / len(labels), {"correct": correct, "samples": float(len(labels))})


def _require_in_range(labels: NDArray[np.int64], classes: int, output: str) -> None:
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        sample = int(np.argmax(wrong))
        raise DataError(
            expected=f"labels from 0 to {classes - 1} for output '{output}'",
            got=f"label {labels[sample]}",
            where=f"sample {sample}",
        )
