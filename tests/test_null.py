from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from hasten.errors import RuntimeFailureError
from hasten.runtimes import Execution, Session, get_runtime
from workers import null_model

X = {"x": np.zeros((2, 4), np.float32)}


def opened(folder: Path, threads: int = 1, **behaviour: object) -> Session:
    runtime = get_runtime("null")
    return runtime.open(runtime.lower(null_model(**behaviour), folder), Execution(threads=threads))


def run_ns(session: Session) -> int:
    """The shortest of a few runs: what others take of the processor only adds."""
    times = []
    for _ in range(7):
        begin = time.perf_counter_ns()
        session.run(X)
        times.append(time.perf_counter_ns() - begin)
    return min(times)


def test_a_run_takes_as_long_as_the_metadata_says(tmp_path: Path) -> None:
    cost_ns = 3_000_000
    assert cost_ns <= run_ns(opened(tmp_path, cost_ns=cost_ns)) < 2 * cost_ns


def test_threads_divide_the_cost(tmp_path: Path) -> None:
    assert 2_000_000 <= run_ns(opened(tmp_path, threads=2, cost_ns=4_000_000)) < 3_900_000


def test_jitter_varies_the_cost_within_its_bounds(tmp_path: Path) -> None:
    assert 1_000_000 <= run_ns(opened(tmp_path, cost_ns=2_000_000, jitter=0.5)) < 3_000_000


def test_without_metadata_a_run_costs_next_to_nothing(tmp_path: Path) -> None:
    assert run_ns(opened(tmp_path)) < 500_000


def test_outputs_are_zeros_of_the_shape_of_the_batch(tmp_path: Path) -> None:
    np.testing.assert_array_equal(opened(tmp_path).run(X)["y"], np.zeros((2, 3), np.float32))


def test_outputs_are_nan_when_asked_for(tmp_path: Path) -> None:
    assert np.isnan(opened(tmp_path, fail="nan").run(X)["y"]).all()


def test_it_fails_to_compile_when_asked_to(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError, match="null could not compile"):
        opened(tmp_path, fail="compile")


def test_it_fails_to_run_when_asked_to(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError, match="null could not run"):
        opened(tmp_path, fail="run").run(X)


def test_models_of_different_behaviour_are_lowered_to_different_files(tmp_path: Path) -> None:
    runtime = get_runtime("null")
    paths = {runtime.lower(null_model(cost_ns=cost), tmp_path).path for cost in (1, 2)}
    assert len(paths) == 2
