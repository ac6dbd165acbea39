"""What ``hasten load`` found, as one page: self-contained, and without scripts."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hasten.report.axis import Axis, linear_axis, log_axis
from hasten.report.html import page_environment, rows_of, sealed
from hasten.report.load import (
    figure_of,
    limit_sentence,
    load_rows,
    trial_cells,
    way_of,
)

if TYPE_CHECKING:
    from hasten.load_generator.comparison import LoadComparison
    from hasten.load_generator.limit import Limit
    from hasten.load_generator.result import LoadResult

__all__ = ["comparison_page", "limit_page", "load_page"]

_WIDTH, _HEIGHT = 1000.0, 380.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 70.0, 980.0, 20.0, 330.0
#: The curve is drawn over 1 / (1 - share): every further nine is as wide as the one before.
_NINES = (0.0, 50.0, 90.0, 99.0, 99.9, 99.99)


@dataclass(frozen=True)
class _Curve:
    """Latency by percentile of one side, as an SVG path."""

    name: str
    kind: str
    path: str
    points: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class _Chart:
    width: float
    height: float
    left: float
    right: float
    bottom: float
    x_ticks: tuple[tuple[float, str], ...]
    y_axis: Axis
    curves: tuple[_Curve, ...]
    goal_y: float | None


def load_page(result: LoadResult, environment: Mapping[str, Any]) -> str:
    """Return the page on one run."""
    return _page(
        environment,
        title=f"{figure_of(result)}: {result.model}",
        sides=[result],
        unmet=result.unmet,
        void=result.void,
    )


def comparison_page(found: LoadComparison, environment: Mapping[str, Any]) -> str:
    """Return the page on two servers."""
    return _page(
        environment,
        title=found.sentence[:1].upper() + found.sentence[1:],
        sides=[found.a, found.b],
        unmet=found.unmet,
        void=found.void,
        comparison=found,
    )


def limit_page(found: Limit, environment: Mapping[str, Any]) -> str:
    """Return the page on a server's limit."""
    sentence = limit_sentence(found)
    return _page(
        environment,
        title=sentence[:1].upper() + sentence[1:],
        sides=[found.at] if found.at is not None else [],
        unmet=found.unmet,
        void=found.void,
        trials=trial_cells(found),
    )


def _page(
    environment: Mapping[str, Any],
    *,
    title: str,
    sides: Sequence[LoadResult],
    unmet: Sequence[str],
    void: str,
    comparison: LoadComparison | None = None,
    trials: Sequence[tuple[str, ...]] = (),
) -> str:
    ratios = comparison.ratios if comparison is not None else []
    return sealed(
        page_environment()
        .get_template("load.html.j2")
        .render(
            title=title,
            sides=sides,
            names=("A", "B") if len(sides) > 1 else ("",),
            way=way_of(sides[0]) if sides else "",
            rows=load_rows(sides, ratios) if sides else [],
            unmet=unmet,
            void=void,
            comparison=comparison,
            trials=trials,
            notes=list(dict.fromkeys(note for side in sides for note in side.notes)),
            chart=_chart(sides),
            environment=list(rows_of(dict(environment))),
        )
    )


def _chart(sides: Sequence[LoadResult]) -> _Chart | None:
    """Lay the curves out; None where no request was answered."""
    times = [at for side in sides for _, at in side.curve_ms]
    if not times:
        return None
    low, high = max(min(times), 1e-3) * 0.9, max(*times, 2e-3) * 1.1
    y_axis = log_axis(low, high, _BOTTOM, _TOP, most_ticks=8)
    x_axis = linear_axis(0, len(_NINES) - 1, _LEFT, _RIGHT, most_ticks=len(_NINES))
    kinds = ("reference", "won") if len(sides) > 1 else ("won",)
    names = ("A", "B") if len(sides) > 1 else ("",)
    curves = []
    for side, kind, name in zip(sides, kinds, names, strict=True):
        points = tuple(
            (x_axis.place(_place(percent)), y_axis.place(at), f"p{percent:g}: {at:.3g} ms")
            for percent, at in side.curve_ms
        )
        path = "M" + "L".join(f"{x} {y}" for x, y, _ in points)
        curves.append(_Curve(name, kind, path, points))
    goal = sides[0].goal_p99_ms
    ticks = tuple((x_axis.place(_place(percent)), f"{percent:g} %") for percent in _NINES)
    goal_y = y_axis.place(goal) if goal is not None and low < goal < high else None
    return _Chart(_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM, ticks, y_axis, tuple(curves), goal_y)


def _place(percent: float) -> float:
    """Return where a percentile lies among the ticks, between two of them in proportion."""
    for index, (low, high) in enumerate(itertools.pairwise(_NINES)):
        if percent <= high:
            return index + (percent - low) / (high - low)
    return len(_NINES) - 1.0
