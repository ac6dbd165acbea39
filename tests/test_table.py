"""The result on a terminal, at the widths people have and without colour."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console, RenderableType

from hasten.report import candidates_table, ledger_table, print_result, summary
from manifests import candidates, evidence, manifest


def _printed(renderable: RenderableType, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _words(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 100, 160])
def test_the_result_keeps_to_the_width_and_cuts_no_number(width: int) -> None:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    print_result(manifest(), console)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\N{HORIZONTAL ELLIPSIS}" not in text
    assert "6.15x [5.97, 6.28]" in text


def test_every_candidate_is_listed() -> None:
    text = _printed(candidates_table(manifest()), width=160)
    for record in candidates():
        assert record.label in text


def test_what_could_not_be_used_is_listed_with_its_reason() -> None:
    text = _printed(candidates_table(manifest()), width=200)
    for record in candidates():
        if record.status in {"over_budget", "failed", "refused"}:
            assert record.reason in text


def test_timed_candidates_run_from_fast_to_slow() -> None:
    text = _printed(candidates_table(manifest()), width=160)
    assert text.index("fold-input") < text.index("mse, openvino") < text.index("pytorch eager")


def test_the_summary_sets_reference_and_chosen_side_by_side() -> None:
    text = _words(_printed(summary(manifest()), width=140))
    assert "latency p50 14.2 ms 2.31 ms 6.15x [5.97, 6.28]" in text
    assert "top1 87.04 % 86.89 % drop 0.15 of 0.50 points allowed" in text
    assert "size 13.6 MB 3.61 MB 27 % of the reference" in text
    assert "peak memory 604 MB 171 MB 28 % of the reference" in text


def test_the_summary_ends_with_the_verdict_and_what_is_unmet() -> None:
    text = _words(_printed(summary(manifest())))
    assert text.index(evidence().verdict) < text.index("NOT MET: latency: wanted at most 2.00 ms")


def test_the_ledger_gives_each_part_its_share() -> None:
    text = _words(_printed(ledger_table(manifest())))
    assert "static_int8 2.05x [1.99, 2.11] \N{MINUS SIGN}0.18 points \N{MINUS SIGN}10.0 MB" in text


def test_brackets_in_a_label_are_not_markup() -> None:
    record = msgspec.structs.replace(candidates()[28], label="int8 [bold]x[/]", reason="[red]no")
    text = _printed(candidates_table(manifest(candidates=(record,))))
    assert "int8 [bold]x[/]" in text
    assert "[red]no" in text


def test_a_manifest_with_nothing_measured_is_said_in_words() -> None:
    bare = manifest(candidates=(), ledger=(), verdict="")
    assert "There were no candidates." in _printed(candidates_table(bare))
    assert "No part was measured on its own." in _printed(ledger_table(bare))


def test_a_metric_that_was_not_evaluated_is_a_dash() -> None:
    whole = evidence()
    text = _printed(
        summary(
            manifest(
                reference=msgspec.structs.replace(whole.reference, metric=None),
                chosen=msgspec.structs.replace(whole.chosen, metric=None),
                drop=None,
            )
        )
    )
    assert "None" not in text
    assert "not evaluated" in _words(text)
