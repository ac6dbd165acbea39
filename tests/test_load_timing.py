"""What is timed and from when: a server that stalls must show it."""

from __future__ import annotations

import pytest

from test_load_client import closed, opened

pytestmark = pytest.mark.quiet


def test_a_request_that_finds_no_free_connection_waits_and_is_timed_from_its_intended_send() -> (
    None
):
    record = opened(10, 1000, most=1, delay_ms=20)

    assert record.connections == 1
    assert record.answered == 10
    whole, from_send = record.latency.largest_ns, record.service.largest_ns
    assert whole > 3 * from_send


def test_a_stall_shows_in_the_latency_though_the_one_connection_hides_it() -> None:
    # Coordinated omission: one answer takes long, the next requests were due meanwhile.
    record = opened(1000, 1000, most=1, stall_ms=400, stall_after=200)

    p90, service_p90 = record.latency.percentile(90), record.service.percentile(90)
    assert p90 is not None
    assert service_p90 is not None
    assert p90 > 200e6
    assert service_p90 < p90 / 5
    assert record.latency.largest_ns >= 400e6


def test_a_stall_shows_with_many_connections_too() -> None:
    record = opened(1000, 1000, stall_ms=400, stall_after=200)

    late = record.answered - record.latency.within(100_000_000)
    assert late > 150


def test_a_closed_loop_hides_the_same_stall() -> None:
    record = closed(2000, concurrency=1, stall_ms=400, stall_after=200)

    assert record.answered - record.latency.within(100_000_000) < 10
