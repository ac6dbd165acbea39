"""Before a model is ready: which batch sizes are run, and what is learnt of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasten.errors import RuntimeFailureError
from hasten.graph import model_from_proto
from hasten.runtimes import Execution, get_runtime
from hasten.serve.engine.runner import Runner
from hasten.serve.engine.warm_up import WarmedUp, handoff_ns, warm_up
from served_models import null_proto, scaled


def warmed(folder: Path, largest: int | None, **behaviour: object) -> WarmedUp:
    """Warm up a null model: a batch takes as long, however many rows it has."""
    runtime = get_runtime("null")
    lowered = runtime.lower(model_from_proto(null_proto(**behaviour), "null"), folder)
    runner = Runner(runtime, lowered, Execution(), batched=largest != 0)
    found = warm_up(runner, largest, any_batch=runtime.any_batch)
    runner.close()
    return found


def test_without_batches_one_row_is_run(tmp_path: Path) -> None:
    assert warmed(tmp_path, 0, cost_ns=1_000_000).sizes == (1,)


@pytest.mark.parametrize("largest", [1, 2, 3, 8])
def test_all_sizes_up_to_the_limit_are_run_where_they_pay(tmp_path: Path, largest: int) -> None:
    found = warmed(tmp_path, largest, cost_ns=2_000_000)
    assert found.sizes == tuple(range(1, largest + 1))
    assert all(found.times.expect(size) >= 2_000_000 for size in found.sizes)


def test_slow_models_are_run_at_powers_of_two_and_the_limit(tmp_path: Path) -> None:
    assert warmed(tmp_path, 12, cost_ns=60_000_000).sizes == (1, 2, 4, 8, 12)


def test_a_limit_of_its_own_is_found_where_there_is_none(tmp_path: Path) -> None:
    assert max(warmed(tmp_path, None, cost_ns=2_000_000).sizes) == 64


def test_a_model_that_cannot_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError, match="null could not run"):
        warmed(tmp_path, 4, fail="run")


def test_litert_has_a_session_for_each_size_that_is_kept(tmp_path: Path) -> None:
    runtime = get_runtime("litert")
    lowered = runtime.lower(model_from_proto(scaled(), "net"), tmp_path)
    runner = Runner(runtime, lowered, Execution(), batched=True)
    found = warm_up(runner, 8, any_batch=runtime.any_batch)
    assert set(found.sizes) <= {1, 2, 4, 8}
    assert len(runner._sessions) == len(found.sizes)
    runner.close()


def test_handing_work_over_takes_some_time() -> None:
    assert 0 < handoff_ns() < 1_000_000_000


def test_handing_work_over_is_measured_once() -> None:
    assert handoff_ns() == handoff_ns()
