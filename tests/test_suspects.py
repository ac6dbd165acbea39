"""Whose requests run apart, and for how long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.serve.engine.suspects import Origin, Suspects

MINUTE_NS = 60_000_000_000


def failed(suspects: Suspects, origin: Origin, now_ns: int = 0) -> Origin:
    suspects.failed(origin, now_ns)
    return origin


def wanted(suspects: Suspects, origin: Origin, now_ns: int = 0) -> int:
    """Count the answers until a connection is trusted."""
    count = 0
    while suspects.includes(origin, now_ns):
        suspects.answered(origin)
        count += 1
    return count


def test_nobody_is_suspected_at_first() -> None:
    suspects = Suspects()
    assert not suspects.origins
    assert not suspects.includes(Origin("10.0.0.1"), 0)
    assert not suspects.includes(None, 0)


def test_a_connection_that_failed_is_suspected_until_it_was_answered_often() -> None:
    suspects = Suspects()
    bad = failed(suspects, Origin("10.0.0.1"))
    assert not suspects.includes(Origin("10.0.0.1"), 0)
    assert [wanted(suspects, failed(suspects, bad)) for _ in range(3)] == [8, 16, 32]
    for _ in range(20):
        failed(suspects, bad)
    assert wanted(suspects, bad) == 1024


def test_a_failure_is_forgotten_after_a_minute() -> None:
    suspects = Suspects()
    bad = failed(suspects, Origin("10.0.0.1"))
    assert suspects.includes(bad, MINUTE_NS - 1)
    assert not suspects.includes(bad, MINUTE_NS)
    assert not suspects.origins


def test_who_opens_a_connection_for_each_request_is_found_by_its_address() -> None:
    suspects = Suspects()
    for _ in range(4):
        new = Origin("10.0.0.1")
        assert not suspects.includes(new, 0)
        failed(suspects, new)
    for _ in range(10):
        new = Origin("10.0.0.1")
        assert suspects.includes(new, 0)
        failed(suspects, new)
    assert not suspects.includes(Origin("10.0.0.2"), 0)


def test_a_neighbour_behind_the_same_address_is_trusted_after_one_answer() -> None:
    suspects = Suspects()
    for _ in range(4):
        failed(suspects, Origin("10.0.0.1"))
    neighbour = Origin("10.0.0.1")
    assert wanted(suspects, neighbour) == 1
    failed(suspects, Origin("10.0.0.1"))
    assert not suspects.includes(neighbour, 0)


def test_one_connection_that_fails_often_does_not_bring_its_address_into_suspicion() -> None:
    suspects = Suspects()
    bad = Origin("10.0.0.1")
    for _ in range(100):
        failed(suspects, bad)
    assert not suspects.includes(Origin("10.0.0.1"), 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_address_of_ipv6_is_its_network(one: str, other: str, *, same: bool) -> None:
    assert (Origin(one).network == Origin(other).network) == same


@given(st.lists(st.integers(0, 20_000), min_size=1, max_size=30))
def test_what_is_remembered_is_bounded(addresses: list[int]) -> None:
    suspects = Suspects()
    for count in addresses:
        for at in range(min(count, 900)):
            failed(suspects, Origin(f"{count}.{at}"), at)
    assert len(suspects.origins) <= 4096
    assert len(suspects._networks) <= 4096
