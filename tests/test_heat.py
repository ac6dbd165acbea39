"""Heats: contestants measured side by side, in blocks of fresh worker processes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hasten.errors import RuntimeFailureError
from hasten.measure.clock import Deadline
from hasten.measure.statistics import TELLING_BLOCKS
from hasten.runtimes import Execution, get_runtime
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.heat import Heats
from workers import null_model, saved_samples

COST_NS = 2_000_000
OVER, NEVER = Deadline.after(0.0), Deadline.after(None)


def contestant(folder: Path, **behaviour: object) -> Contestant:
    made = null_model(**{"cost_ns": COST_NS, **behaviour})
    lowered = get_runtime("null").lower(made, folder)
    return Contestant(Candidate((), "null", Execution()), made, lowered)


def heats(folder: Path, deadline: Deadline = NEVER, **behaviour: object) -> Heats:
    """Heats beside a reference of these ways."""
    reference = contestant(folder, **behaviour)
    samples = saved_samples(folder / "samples")
    order = random.Random(0)  # noqa: S311 - an order of rounds
    return Heats(reference, samples, folder, "latency", order, deadline)


def test_each_block_has_its_rounds_and_processes(tmp_path: Path) -> None:
    one = contestant(tmp_path)
    result = heats(tmp_path).heat([one], 3, blocks=2)
    assert [len(block) for block in result.measured[one].runs_ns] == [3, 3]
    assert [len(block) for block in result.reference.runs_ns] == [3, 3]


def test_after_the_deadline_nothing_is_measured(tmp_path: Path) -> None:
    one = contestant(tmp_path)
    result = heats(tmp_path, OVER).heat([one], 2, blocks=6)
    assert result.measured == {}
    assert one.reason == "not raced: the time was up"


def test_the_blocks_that_an_interval_needs_may_take_longer(tmp_path: Path) -> None:
    one = contestant(tmp_path)
    result = heats(tmp_path, OVER).heat([one], 2, blocks=6, needed_until=NEVER)
    assert len(result.measured[one].runs_ns) == TELLING_BLOCKS


@pytest.mark.parametrize("fail", ["compile", "run", "crash"])
def test_one_that_fails_is_out_and_the_others_are_measured(tmp_path: Path, fail: str) -> None:
    good, bad = contestant(tmp_path), contestant(tmp_path, fail=fail)
    result = heats(tmp_path).heat([bad, good], 2)
    assert set(result.measured) == {good}
    assert bad.status == "failed"
    assert "\n" not in bad.reason


@pytest.mark.parametrize("fail", ["compile", "run", "crash"])
def test_a_reference_that_fails_is_an_error(tmp_path: Path, fail: str) -> None:
    with pytest.raises(RuntimeFailureError):
        heats(tmp_path, fail=fail).heat([contestant(tmp_path)], 2)


def test_one_reference_runs_beside_all_that_are_screened(tmp_path: Path) -> None:
    many = [contestant(tmp_path, cost_ns=COST_NS + at) for at in range(9)]
    advanced: list[int] = []
    made = heats(tmp_path)
    made.screen(many, 2, NEVER, advanced.append)
    assert sum(advanced) == 9
    assert all(one.speedup is not None for one in many)
    assert made.reference.measurement.measured_rounds == 2 * len(advanced)
