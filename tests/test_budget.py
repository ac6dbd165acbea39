from __future__ import annotations

import math

import pytest

from hasten.cli.options import megabytes, seconds
from hasten.errors import OptionError
from hasten.tune.budget import Budget


@pytest.mark.parametrize("drop", [-0.001, math.nan, math.inf])
def test_a_drop_that_cannot_be_meant_is_refused(drop: float) -> None:
    with pytest.raises(OptionError, match="--max-drop"):
        Budget(drop)


@pytest.mark.parametrize("goal", [0.0, -1.0, math.nan])
def test_a_goal_that_cannot_be_meant_is_refused(goal: float) -> None:
    with pytest.raises(OptionError, match="--latency-ms"):
        Budget(latency_ms=goal)


@pytest.mark.parametrize(("text", "found"), [("90", 90), ("90s", 90), ("5m", 300), ("1.5h", 5400)])
def test_times_are_read_in_their_unit(text: str, found: float) -> None:
    assert seconds(text) == found


@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_a_size_that_cannot_be_meant_is_refused(size: float) -> None:
    with pytest.raises(OptionError, match="--size-mb"):
        megabytes(size, "--size-mb")


def test_megabytes_are_powers_of_ten() -> None:
    assert megabytes(1.5, "--size-mb") == 1_500_000
    assert megabytes(None, "--size-mb") is None
