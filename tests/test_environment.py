from __future__ import annotations

import json
import os

import msgspec
import pytest

from hasten.measure.environment import Weather, environment, physical_cores

FAIR = Weather(total_ticks=1000, stolen_ticks=10, throttled_periods=3, load_1m=0.0)


def later(total: int = 1000, stolen: int = 0, throttled: int = 0, load: float = 0.0) -> Weather:
    return Weather(
        FAIR.total_ticks + total,
        FAIR.stolen_ticks + stolen,
        FAIR.throttled_periods + throttled,
        load,
    )


def test_the_fingerprint_is_plain_json() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert msgspec.json.decode(msgspec.json.encode(found)) == found


@pytest.mark.parametrize("key", ["cpu", "os", "machine", "python"])
def test_the_fingerprint_names_the_machine(key: str) -> None:
    assert environment()[key]


def test_the_fingerprint_holds_the_versions_of_what_ran() -> None:
    assert {"hasten", "numpy", "onnxruntime"} <= set(environment()["versions"])


def test_the_fingerprint_counts_memory_and_processors() -> None:
    found = environment()
    assert found["memory_bytes"] > 10**8
    assert set(found["usable_cpus"]) <= set(range(os.cpu_count() or 1))


def test_there_is_a_core_and_no_more_than_processors() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)


def test_a_process_bound_to_one_processor_has_one_core() -> None:
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(usable)})
    try:
        assert physical_cores() == 1
    finally:
        os.sched_setaffinity(0, usable)


def test_counters_never_run_backwards() -> None:
    first, second = Weather.now(), Weather.now()
    assert second.total_ticks >= first.total_ticks > 0
    assert second.throttled_periods >= first.throttled_periods


def test_fair_weather_has_no_causes_of_unrest() -> None:
    assert later(stolen=10, load=float(os.cpu_count() or 1)).unrest_since(FAIR) == []


def test_no_time_between_two_readings_is_no_unrest() -> None:
    assert FAIR.unrest_since(FAIR) == []


def test_stolen_time_is_named_with_its_share() -> None:
    assert later(stolen=120).unrest_since(FAIR) == [
        "the hypervisor took 12% of the processor time (steal)"
    ]


def test_throttling_is_named_with_its_periods() -> None:
    assert later(throttled=4).unrest_since(FAIR) == [
        "the cgroup quota stopped this process in 4 periods"
    ]


def test_load_by_others_is_named() -> None:
    cpus = os.cpu_count() or 1
    assert later(load=2.0 * cpus).unrest_since(FAIR) == [
        f"other work loads the machine ({2.0 * cpus:.1f} on {cpus} cpus)"
    ]


def test_every_cause_is_named() -> None:
    stormy = later(stolen=500, throttled=1, load=1e3)
    assert len(stormy.unrest_since(FAIR)) == 3
