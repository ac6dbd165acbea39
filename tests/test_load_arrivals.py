"""Arrivals are decided by the seed and the rate alone."""

from __future__ import annotations

import statistics
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import DataError, OptionError
from hasten.load_generator.arrivals import Constant, Poisson, Replay, read_arrivals

RATES = st.floats(0.1, 1e5)


@given(RATES, st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_arrivals(rate: float, seed: int) -> None:
    one, other = (list(islice(Poisson(rate, seed).offsets_ns(), 50)) for _ in range(2))

    assert one == other
    assert one == sorted(one)


def test_another_seed_gives_other_arrivals() -> None:
    assert list(islice(Poisson(100, 1).offsets_ns(), 9)) != list(
        islice(Poisson(100, 2).offsets_ns(), 9)
    )


@pytest.mark.parametrize("rate", [3.0, 5000.0])
def test_poisson_arrivals_come_at_their_rate_with_exponential_gaps(rate: float) -> None:
    count = 40_000
    offsets = list(islice(Poisson(rate, 7).offsets_ns(), count))
    gaps_s = [(b - a) / 1e9 for a, b in pairwise(offsets)]

    assert statistics.fmean(gaps_s) == pytest.approx(1 / rate, rel=0.02)
    assert statistics.stdev(gaps_s) == pytest.approx(1 / rate, rel=0.03)


@given(RATES)
def test_constant_arrivals_do_not_drift(rate: float) -> None:
    *_, last = islice(Constant(rate).offsets_ns(), 1001)

    assert last == pytest.approx(1000 / rate * 1e9, abs=1)


def test_a_recording_is_replayed_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.txt"
    path.write_text("# seconds\n0.5\n\n0.5\n1.25  # late\n")

    assert read_arrivals(path) == Replay((500_000_000, 500_000_000, 1_250_000_000))
    assert list(read_arrivals(path).offsets_ns()) == [500_000_000, 500_000_000, 1_250_000_000]


def test_a_recording_by_the_clock_begins_with_its_first_arrival(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.txt"
    path.write_text("1764110000.5\n1764110002.5\n")

    assert read_arrivals(path).recorded_ns == (0, 2_000_000_000)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "Expected one time in seconds a line, got none"),
        ("1\nsoon\n", "got 'soon' - at .*, line 2"),
        ("2\n1\n", "Expected a time in seconds, 2 or later, got '1' - at .*, line 2"),
        ("-1\n", "got '-1'"),
        ("inf\n", "got 'inf'"),
        ("nan\n", "got 'nan'"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "arrivals.txt"
    path.write_text(text)

    with pytest.raises(DataError, match=complaint):
        read_arrivals(path)


def test_a_recording_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        OptionError, match="constant, poisson or a file of arrivals, got no such file"
    ):
        read_arrivals(tmp_path / "absent")
