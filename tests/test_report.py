"""The report page: whole, self-contained and honest about what it does not show."""

from __future__ import annotations

import html
import itertools
import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bundle.manifest import BudgetRecord, CandidateRecord, Interval, Manifest
from hasten.report import render_html
from hasten.report.bars import bars, spans
from hasten.report.labels import Box, Request, place_labels
from hasten.report.scatter import scatter
from hasten.report.units import MetricUnit
from manifests import CHOSEN, REFERENCE, candidates, evidence, latency, manifest

_VOID = {"meta", "br", "line", "rect", "circle", "path"}


class _TagBalance(HTMLParser):
    """Collects what a browser would have to repair."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def _parse(page: str) -> _TagBalance:
    parser = _TagBalance()
    parser.feed(page)
    parser.close()
    return parser


def _text(page: str) -> str:
    return re.sub(r"\s+", " ", " ".join(_parse(page).text))


def _without_metric() -> Manifest:
    whole = evidence()
    return manifest(
        reference=msgspec.structs.replace(whole.reference, metric=None),
        chosen=msgspec.structs.replace(whole.chosen, metric=None),
        candidates=tuple(msgspec.structs.replace(r, metric=None) for r in whole.candidates),
        drop=None,
        ledger=(),
        notes=(),
        unmet=(),
        control=None,
    )


def _never_timed() -> Manifest:
    untimed = tuple(
        msgspec.structs.replace(record, latency_ms=None, speedup=None) for record in candidates()
    )
    return manifest(candidates=untimed)


_MANIFESTS = {
    "whole": manifest(),
    "no metric, ledger, notes or control": _without_metric(),
    "a single candidate": manifest(candidates=candidates()[:1]),
    "no candidates": manifest(candidates=()),
    "nothing timed": _never_timed(),
    "no drop allowed": manifest(budget=BudgetRecord(metric="package:bleu", max_drop=0.0)),
    "no verdict": manifest(verdict=""),
}


@pytest.mark.parametrize("case", _MANIFESTS)
def test_the_page_is_well_formed(case: str) -> None:
    parsed = _parse(render_html(_MANIFESTS[case]))
    assert parsed.faults == []
    assert parsed.open == []


@pytest.mark.parametrize("case", _MANIFESTS)
def test_the_page_asks_the_network_for_nothing_and_runs_no_script(case: str) -> None:
    page = render_html(_MANIFESTS[case])
    assert not re.search(r"https?://|\bsrc=|\bhref=|url\(|@import|<script|<link", page)


@pytest.mark.parametrize("case", _MANIFESTS)
def test_no_number_is_written_as_python_would(case: str) -> None:
    assert not re.search(
        r"\b(None|nan|inf|Interval|e-\d\d)\b", _text(render_html(_MANIFESTS[case]))
    )


def test_every_candidate_stands_on_the_page_with_its_reason() -> None:
    text = _text(render_html(manifest()))
    for record in candidates():
        assert record.label in text
        assert record.reason in text


def test_a_candidate_without_a_reason_says_so() -> None:
    lost = msgspec.structs.replace(candidates()[1], reason="")
    assert "no reason recorded" in _text(render_html(manifest(candidates=(lost,))))


def test_the_verdict_is_the_headline() -> None:
    page = render_html(manifest())
    headline = re.search(r"<h1>(.*?)</h1>", page)
    assert headline is not None
    assert html.unescape(headline[1]) == evidence().verdict


def test_unmet_goals_are_an_alert() -> None:
    page = render_html(manifest(unmet=("size: wanted 1 MB", "memory: wanted 9 MB")))
    alert = page[page.index('role="alert"') :]
    assert "Goals are not met" in alert
    assert alert.index("size: wanted 1 MB") < alert.index("memory: wanted 9 MB")


def test_no_alert_when_every_goal_is_met() -> None:
    assert 'role="alert"' not in render_html(manifest(unmet=()))


def test_the_big_numbers_are_there() -> None:
    text = _text(render_html(manifest()))
    for number in ("6.15 x", "2.31 ms", "86.89 %", "3.61 MB", "171 MB"):
        assert number.replace(" x", "x") in text
    assert "drop 0.15 of 0.50 points allowed" in text


def test_markup_in_labels_and_reasons_is_shown_and_not_obeyed() -> None:
    hostile = "<script>alert(\"1\")</script> & 'x'</title></svg>"
    record = msgspec.structs.replace(candidates()[1], label=hostile, reason=hostile)
    whole = evidence()
    page = render_html(
        manifest(
            candidates=(record, *candidates()),
            chosen=msgspec.structs.replace(whole.chosen, label=hostile),
            verdict=hostile,
            unmet=(hostile,),
            notes=(hostile,),
        )
    )
    assert "<script" not in page
    parsed = _parse(page)
    assert parsed.faults == []
    assert "".join(parsed.text).count(hostile) >= 5


def test_the_plan_tells_how_to_run_it() -> None:
    page = html.unescape(render_html(manifest()))
    assert 'bundle = hasten.Bundle.open("elpv-lite0.hasten")' in page
    assert 'outputs = bundle.run({"image": ...})' in page
    assert "9f2c" * 16 in page


def test_the_environment_is_flattened_with_its_path() -> None:
    text = _text(render_html(manifest()))
    assert "cpu model Intel(R) Xeon(R) Platinum 8488C" in text
    assert "avx2, avx512f, avx512_vnni" in text


@pytest.mark.parametrize("width", [1000.0, 660.0, 360.0])
def test_the_scatter_shows_every_timed_candidate(width: float) -> None:
    chart = scatter(evidence(), width, 440.0)
    assert chart is not None
    timed = [record.label for record in candidates() if record.latency_ms is not None]
    assert sorted(mark.label for mark in chart.marks) == sorted(timed)
    assert all(chart.left <= mark.x <= chart.right for mark in chart.marks)
    assert all(0 <= mark.y <= chart.floor for mark in chart.marks)


def test_candidates_without_a_metric_stand_on_the_strip() -> None:
    chart = scatter(evidence(), 1000.0, 440.0)
    assert chart is not None
    assert chart.strip is not None
    unrated = {r.label for r in candidates() if r.latency_ms is not None and r.metric is None}
    assert {mark.label for mark in chart.strip.marks} == unrated


@pytest.mark.parametrize("width", [1000.0, 660.0, 360.0])
def test_no_two_labels_of_the_scatter_overlap(width: float) -> None:
    chart = scatter(evidence(), width, 440.0)
    assert chart is not None
    assert chart.plot is not None
    for one, other in itertools.combinations(chart.plot.labels, 2):
        assert one.box.overlap(other.box) == 0


def test_reference_and_chosen_are_always_labelled() -> None:
    crowd = tuple(
        msgspec.structs.replace(
            candidates()[1], label=f"twin {i}", latency_ms=latency(2.3 + i / 50), metric=0.868
        )
        for i in range(200)
    )
    chart = scatter(evidence(candidates=crowd), 360.0, 420.0)
    assert chart is not None
    assert chart.plot is not None
    assert {"chosen", "reference"} <= {label.lines[0] for label in chart.plot.labels}


def test_a_metric_far_below_the_budget_is_marked_and_not_lost() -> None:
    chart = scatter(evidence(), 1000.0, 440.0)
    assert chart is not None
    assert [mark.metric for mark in chart.marks if mark.below] == [0.5122]


def test_failed_candidates_are_not_on_the_frontier() -> None:
    best = CandidateRecord(
        label="broken",
        steps=(),
        runtime="null",
        execution={},
        status="failed",
        latency_ms=latency(0.1),
        metric=0.99,
    )
    chart = scatter(evidence(candidates=(*candidates(), best)), 1000.0, 440.0)
    assert chart is not None
    assert chart.plot is not None
    (mark,) = [mark for mark in chart.marks if mark.label == "broken"]
    assert f"{mark.x} " not in chart.plot.frontier


def test_where_nothing_beat_the_reference_it_is_shown_as_chosen() -> None:
    whole = evidence()
    same = evidence(chosen=whole.reference, candidates=candidates()[18:19])
    chart = scatter(same, 1000.0, 440.0)
    assert chart is not None
    assert [mark.kind for mark in chart.marks] == ["won"]


def test_bars_run_from_fast_to_slow_and_mark_the_reference() -> None:
    rows = bars(evidence())
    times = [bar.latency_ms.p50 for bar in rows]
    assert times == sorted(times)
    assert [bar.record.label for bar in rows if bar.kind == "reference"] == [REFERENCE]
    assert [bar.record.label for bar in rows if bar.kind == "won"] == [CHOSEN]


def test_bars_much_longer_than_the_reference_are_cut() -> None:
    assert [bar.record.label for bar in bars(evidence()) if bar.cut] == [
        "dynamic_int8, openvino, 2 threads"
    ]


def test_spans_share_one_axis_of_ratios() -> None:
    half, double = spans([Interval(0.5, 0.5, 0.5), Interval(2.0, 2.0, 2.0)])
    assert half is not None
    assert double is not None
    assert half.median + double.median == pytest.approx(2 * half.one, abs=0.02)
    assert spans([None]) == [None]


@given(
    st.lists(
        st.tuples(st.floats(0, 400), st.floats(0, 300), st.integers(1, 40)), min_size=1, max_size=12
    )
)
def test_labels_that_may_yield_hide_nothing(points: list[tuple[float, float, int]]) -> None:
    bounds = Box(0, 0, 400, 300)
    taken = [Box.around(x, y) for x, y, _ in points]
    requests = [Request(x, y, ("x" * letters,), "lost") for x, y, letters in points]
    labels = place_labels(requests, taken, bounds)
    assert all(bounds.holds(label.box) for label in labels)
    assert all(label.box.overlap(box) == 0 for label in labels for box in taken)


def test_a_drop_that_is_a_gain_is_called_one() -> None:
    unit = MetricUnit("top1")
    assert unit.drop(-0.002, 0.005) == "gained 0.20 points; a drop of 0.50 points was allowed"
    assert unit.drop(None, 0.005) == "not evaluated; a drop of 0.50 points is allowed"
