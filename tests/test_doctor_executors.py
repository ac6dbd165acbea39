"""How many executors with how many threads: measured, not guessed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hasten.doctor import (
    ExecutorSizing,
    size_executors,
)
from hasten.doctor.executors import layouts
from hasten.errors import RuntimeFailureError
from hasten.runtimes import Execution
from workers import lowered, null_model, saved_samples


def size(folder: Path, execution: Execution | None = None, **behaviour: Any) -> ExecutorSizing:
    return size_executors(
        "null",
        lowered("null", null_model(**behaviour), folder),
        execution or Execution(),
        saved_samples(folder / "samples"),
        cores=2,
        rounds=3,
        scratch=folder / "scratch",
    )


@pytest.mark.parametrize("cores", [1, 2, 3, 4, 6, 48, 96])
def test_layouts_never_fill_more_than_the_cores(cores: int) -> None:
    found = list(layouts(cores))
    assert found[0] == (1, 1)
    assert len(set(found)) == len(found)
    assert all(instances * threads <= cores for instances, threads in found)
    assert {(cores, 1), (1, cores)} <= set(found)


def test_every_layout_is_measured(tmp_path: Path) -> None:
    found = size(tmp_path, cost_ns=200_000)
    assert [str(one) for one in found.layouts] == ["1 x 1", "1 x 2", "2 x 1"]
    for one in found.layouts:
        assert one.items_per_s > 0
        assert one.latency_ms
        assert one.latency_ms.p50 > 0
        assert one.speedup
    assert found.layouts[0].speedup
    assert found.layouts[0].speedup.median == 1.0
    assert found.for_throughput in found.layouts
    assert found.for_latency in found.layouts


def test_the_rest_of_the_execution_is_kept(tmp_path: Path) -> None:
    found = size(tmp_path, Execution(threads=7, instances=9, batch=2), cost_ns=100_000)
    assert [(one.instances, one.threads) for one in found.layouts] == [(1, 1), (1, 2), (2, 1)]


def test_a_model_that_does_not_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError):
        size(tmp_path, fail="compile")
