"""Fidelity: closeness to the reference model, for data without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from hasten.data.answers import Answers
from hasten.data.fidelity import score_outputs
from hasten.data.meaning import Meaning, find_meanings
from hasten.data.metrics.metric import Score
from hasten.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hasten.data.metrics.metric import Outputs

__all__ = ["Fidelity"]


class Fidelity(msgspec.Struct, frozen=True):
    """How much of what the reference answers is kept, in the worst of all outputs.

    Each output is compared by what it means (``meanings``, found from the values where they are not
    given); one that is ruined counts as 0. ``max_drop`` is how much may be lost: the floor beneath
    all outputs gives way with it. Beside the value stands ``sqnr_db``, the least signal to noise
    ratio of an output around its mean over samples.
    """

    name: str = "fidelity"
    meanings: dict[str, Meaning] = {}
    max_drop: float = 0.0

    def reads(self, outputs: Sequence[str]) -> Sequence[str]:
        """Return all of them."""
        return outputs

    def evaluate(
        self,
        outputs: Outputs,
        labels: NDArray[np.int64] | None,  # noqa: ARG002 - judges without labels
        reference_outputs: Outputs | None,
    ) -> Score:
        """Judge all outputs against the reference's."""
        if reference_outputs is None:
            raise DataError(
                expected="outputs of the reference model", got="none", where="metric fidelity"
            )
        reference = Answers.of(reference_outputs)
        meanings = self.meanings or find_meanings(reference)
        found = score_outputs(Answers.of(outputs), reference, meanings, self.max_drop)
        heard = [one.sqnr_db for one in found if one.sqnr_db is not None]
        details = {"sqnr_db": min(heard)} if heard else {}
        return Score(min((one.kept for one in found), default=1.0), details, found)
