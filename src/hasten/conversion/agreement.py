"""How far the outputs of two sessions part, over samples: each output by what it means."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hasten.data import OutputScore
from hasten.data.answers import Answers, Runs, SampleAxis, axis_by_growth, plain
from hasten.data.fidelity import FLOOR_DB, score_outputs
from hasten.data.meaning import OutputKind, find_meanings
from hasten.errors import DataError, RefusedError
from hasten.runtimes import Arrays

if TYPE_CHECKING:
    import onnx

__all__ = ["Agreement", "Difference", "Run", "compare_runs"]

Run = Callable[[Arrays], Arrays]

#: Kinds of dtypes whose values are numbers on a scale; of others it counts how many are the same.
_NARROW = frozenset({"int8", "uint8", "int16", "uint16"})
#: Sums are added up in another order: outputs that part no further than this are the same.
_ROUNDING = 1e-3
#: Of texts, integers and detections so much may be lost: they flip where floats only move.
_FLIPPED = 0.01


class Difference(msgspec.Struct, frozen=True):
    """How far one output parts.

    ``relative`` is the largest difference as a share of the output's largest value; of class
    numbers, indices and truth values it is the share that differs.
    """

    output: str
    relative: float


class Agreement(msgspec.Struct, frozen=True):
    """What was compared: ``left`` is what the numbers should be.

    ``allowed`` is the tolerance: how large noise may be, as a share of what varies over samples
    (root mean square). ``outputs`` are what each output keeps by what it means, and ``drift`` names
    the first tensor that parts further, where it was looked for.
    """

    left: str
    right: str
    samples: int
    synthetic: bool
    allowed: float
    differences: tuple[Difference, ...]
    outputs: tuple[OutputScore, ...] = ()
    drift: str = ""

    @property
    def largest(self) -> Difference:
        """The output that parts furthest."""
        return max(self.differences, key=lambda one: one.relative)

    @property
    def parting(self) -> str:
        """Say which output parts further than is allowed, and by how much; empty where none."""
        scores = {one.output: one for one in self.outputs}
        for difference in sorted(self.differences, key=lambda one: -one.relative):
            told = self._too_far(difference, scores.get(difference.output))
            if told:
                return told
        return ""

    def _too_far(self, difference: Difference, score: OutputScore | None) -> str:
        if difference.relative <= min(_ROUNDING, self.allowed):
            return ""
        if score is None:
            return f"output {difference.output} of {self.right} cannot be compared"
        name = f"output {score.output} ({score.kind.replace('_', ' ')}) of {self.right}"
        if score.broken and not self._allows(score):
            return f"{name} differs from {self.left}: {score.broken}"
        if score.sqnr_db is None:
            kept = 1 - score.figure <= max(self.allowed, _FLIPPED)
            return "" if kept else f"{name} keeps {score.figure:.2%} of {self.left}'s"
        noise = _noise(score.sqnr_db)
        if noise <= self.allowed:
            return ""
        return (
            f"{name} differs from {self.left} by {noise:.2g} of what varies over samples"
            f" ({score.sqnr_db:.1f} dB)"
        )

    def _allows(self, score: OutputScore) -> bool:
        """Whether noise below the floor is allowed, and nothing but noise broke the output."""
        if score.sqnr_db is None or score.is_constant or self.allowed <= _noise(FLOOR_DB):
            return False
        return _noise(score.sqnr_db) <= self.allowed

    def require(self, model: str) -> None:
        """Raise RefusedError where an output parts further than is allowed."""
        parting = self.parting
        if not parting:
            return
        begins = f"; it begins at {self.drift}" if self.drift else ""
        # Random numbers may be none that the model is made for, such as masks of 2.5.
        on = f"{self.samples} random samples; --data gives real ones"
        if not self.synthetic:
            on = f"{self.samples} samples"
        raise RefusedError(
            f"converting {model}: {parting}, {self.allowed:g} is allowed ({on})"
            f"{begins}; nothing was written"
        )


def _noise(sqnr_db: float) -> float:
    return float(10 ** (-sqnr_db / 20))


def compare_runs(
    left: Run,
    right: Run,
    feeds: Iterable[tuple[Arrays, int]],
    *,
    graph: onnx.ModelProto | None = None,
    kinds: Mapping[str, OutputKind] = MappingProxyType({}),
) -> tuple[tuple[Difference, ...], tuple[OutputScore, ...]]:
    """Run both on each feed, of so many samples; compare each output of ``left``.

    ``graph`` and ``kinds`` tell what outputs are, as far as they are known. Outputs that ``right``
    gives in another shape are not among the scores.
    """
    sides: tuple[dict[str, list[np.ndarray]], ...] = ({}, {})
    counts: list[int] = []
    for feed, count in feeds:
        for outputs, run in zip(sides, (left, right), strict=True):
            for name, value in run(feed).items():
                outputs.setdefault(name, []).append(plain(np.array(value), name))
        counts.append(count)
    differences = tuple(
        _difference(name, values, sides[1].get(name, [])) for name, values in sides[0].items()
    )
    axes = {name: _axis(values, counts) for name, values in sides[0].items()}
    told, said = (Answers.from_runs(Runs(side, tuple(counts)), axes) for side in sides)
    meanings = find_meanings(told, graph, kinds)
    try:
        scores = score_outputs(said, told, meanings, judged=tuple(told))
    except DataError:  # no finite number, which the differences say
        scores = ()
    return differences, scores


def _axis(values: Sequence[np.ndarray], counts: Sequence[int]) -> SampleAxis:
    """Find where samples stand; runs of a fixed batch are compared as wholes."""
    pairs = list(zip(values, counts, strict=True))
    alone = [value.shape for value, count in pairs if count == 1]
    if not alone:
        return SampleAxis(None)
    return axis_by_growth(alone, {count: value.shape for value, count in pairs if count > 1})


def _difference(name: str, wanted: list[np.ndarray], found: list[np.ndarray]) -> Difference:
    if len(wanted) != len(found):
        return Difference(name, math.inf)
    pairs = [_apart(want, have) for want, have in zip(wanted, found, strict=True)]
    off, size = (max(one) for one in zip(*pairs, strict=True))
    return Difference(name, off / size if off and size else off)


def _apart(want: np.ndarray, have: np.ndarray) -> tuple[float, float]:
    """The largest difference and the largest value; infinite where they cannot be compared."""
    alike = want.dtype == have.dtype or (want.dtype.kind == have.dtype.kind == "U")
    if want.shape != have.shape or not alike:
        return float("inf"), 1.0
    if want.size == 0:
        return 0.0, 1.0
    if want.dtype.kind not in "fcV" and want.dtype.name not in _NARROW:
        return float(np.mean(want != have)), 1.0
    exact, near = np.asarray(want, np.float64), np.asarray(have, np.float64)
    finite = np.isfinite(exact)
    if not np.array_equal(exact[~finite], near[~finite], equal_nan=True):
        return float("inf"), 1.0
    if not np.isfinite(near[finite]).all():
        return float("inf"), 1.0
    off = np.max(np.abs(exact[finite] - near[finite]), initial=0.0)
    return float(off), float(np.max(np.abs(exact[finite]), initial=0.0))
