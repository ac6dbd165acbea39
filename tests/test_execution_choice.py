"""How many threads a model gets that nobody has measured yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from hasten.graph import model_from_proto
from hasten.measure.environment import physical_cores
from hasten.runtimes import Execution, get_runtime
from hasten.serve.engine.execution_choice import Choice, choose
from hasten.serve.engine.opening import open_model
from hasten.serve.engine.runner import Runner
from hasten.serve.repository.loader import sources_of
from repositories import only, put_bundle, put_onnx
from served_models import null_proto, scaled

MS = 1_000_000


def chosen(folder: Path, costs_ns: Sequence[int]) -> Choice:
    """Choose between null models, the n-th with n threads, that take so long."""
    runtime = get_runtime("null")

    def opened(execution: Execution) -> Runner:
        threads = execution.threads
        proto = null_proto(cost_ns=threads * costs_ns[threads - 1])  # they share it evenly
        place = folder / str(threads)
        place.mkdir()
        return Runner(
            runtime, runtime.lower(model_from_proto(proto, "null"), place), execution, batched=True
        )

    executions = [Execution(threads=at + 1) for at in range(len(costs_ns))]
    choice = choose(executions, opened, (1, 8))
    choice.runner.close()
    return choice


@pytest.mark.parametrize(
    ("costs_ns", "threads"),
    [((2 * MS, 2 * MS), 1), ((2 * MS, MS), 2), ((MS, 2 * MS), 1), ((4 * MS, 2 * MS, MS), 3)],
)
def test_more_threads_are_taken_where_they_are_clearly_faster(
    tmp_path: Path, costs_ns: Sequence[int], threads: int
) -> None:
    assert chosen(tmp_path, costs_ns).execution.threads == threads


def test_it_says_how_the_others_compared(tmp_path: Path) -> None:
    reason = chosen(tmp_path, (8 * MS, 2 * MS)).reason
    assert reason.startswith("1t takes ")
    assert float(reason.split()[2]) > 1  # four times as long, on a machine that does nothing else


def test_one_that_has_no_rival_is_not_timed(tmp_path: Path) -> None:
    assert chosen(tmp_path, (10**12,)).reason == ""


# What is opened


def threads_of(path: Path, settings: str | None = None) -> tuple[int, str]:
    (source,) = sources_of(only(path, settings))
    opened = open_model(source)
    for runner in opened.runners:
        runner.close()
    return opened.choice.execution.threads, opened.choice.reason


def test_a_small_model_file_has_one_thread(tmp_path: Path) -> None:
    threads, reason = threads_of(put_onnx(tmp_path / "net.onnx", scaled()))
    assert threads == 1
    assert reason.endswith("times as long") == (physical_cores() > 1)


def test_what_the_user_asks_for_is_not_measured(tmp_path: Path) -> None:
    path = put_onnx(tmp_path / "net.onnx", scaled())
    assert threads_of(path, '{"threads": 3}') == (3, "")


def test_instances_share_the_cores(tmp_path: Path) -> None:
    path = put_onnx(tmp_path / "net.onnx", scaled())
    many = f'{{"instances": {physical_cores()}}}'
    assert threads_of(path, many) == (1, "")


def test_a_plan_is_not_measured_again(tmp_path: Path) -> None:
    assert threads_of(put_bundle(tmp_path / "b")) == (1, "")
