"""A session in a worker process answers as one in this process does, and its crash is an error."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hasten.errors import OptionError, RuntimeFailureError
from hasten.graph import model_from_proto
from hasten.runtimes import EXACT, Arrays, Execution, Lowered, get_runtime
from hasten.worker.session import WorkerSession, in_worker
from onnx_models import linear, run
from workers import SIGNATURE, children, lowered, null_model, state_of

_KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "bool": TensorProto.BOOL,
    "int64": TensorProto.INT64,
    "str": TensorProto.STRING,
}


def same(dtype: str, *shape: int | str | None) -> onnx.ModelProto:
    """A model that returns its input."""
    x, y = (helper.make_tensor_value_info(name, _KINDS[dtype], shape) for name in "xy")
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    graph = helper.make_graph(nodes, "same", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerSession]:
    """One process for all models here, as for those of a caller."""
    session = WorkerSession(tmp_path_factory.mktemp("session"))
    yield session
    session.close()


def opened(session: WorkerSession, proto: onnx.ModelProto, folder: Path) -> WorkerSession:
    session.open("onnxruntime", lowered("onnxruntime", proto, folder), Execution())
    return session


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6, dtype=np.float16).reshape(3, 2).T,
        np.array([[True, False]]),
        np.zeros((0, 3), np.int64),
        np.array([["a", "long text", "", "é\0"]], object),
        np.array([["fixed", "width"]]),
    ],
)
def test_arrays_of_every_kind_go_through(
    session: WorkerSession, array: np.ndarray, tmp_path: Path
) -> None:
    dtype = "str" if array.dtype.kind in "OU" else array.dtype.name
    opened(session, same(dtype, "n", "m"), tmp_path)
    found = session.run({"x": array})["y"]
    assert found.dtype == (object if dtype == "str" else array.dtype)
    np.testing.assert_array_equal(found, array)


def test_a_scalar_goes_through(session: WorkerSession, tmp_path: Path) -> None:
    found = opened(session, same("float32"), tmp_path).run({"x": np.array(3, np.float32)})["y"]
    assert (found.shape, float(found)) == ((), 3.0)


def test_outputs_are_the_callers_own(session: WorkerSession, tmp_path: Path) -> None:
    opened(session, same("float32", "n"), tmp_path)
    first = session.run({"x": np.ones(4, np.float32)})["y"]
    session.run({"x": np.zeros(4, np.float32)})
    assert first.tolist() == [1, 1, 1, 1]


def test_a_stream_gives_what_single_runs_give(session: WorkerSession, tmp_path: Path) -> None:
    opened(session, same("float32", "n"), tmp_path)
    feeds: list[tuple[Arrays, str]] = [
        ({"x": np.full(size, size, np.float32)}, f"row {size}") for size in (3, 20_000, 1, 7)
    ]
    told = [
        (feed["x"].size, row, np.array(outputs["y"]))
        for feed, row, outputs in session.stream(feeds)
    ]
    assert [row for _, row, _ in told] == [row for _, row in feeds]
    for size, _, output in told:
        np.testing.assert_array_equal(output, np.full(size, size, np.float32))
    assert list(session.stream([])) == []


def test_a_stream_that_is_left_does_not_answer_for_the_next_run(
    session: WorkerSession, tmp_path: Path
) -> None:
    opened(session, same("float32", "n"), tmp_path)
    for _ in session.stream([({"x": np.full(2, at, np.float32)}, at) for at in range(4)]):
        break
    assert session.run({"x": np.full(2, 9, np.float32)})["y"].tolist() == [9, 9]


def test_what_fails_to_compile_is_said_by_the_next_run_and_leaves_nothing_open(
    session: WorkerSession, tmp_path: Path
) -> None:
    opened(session, same("float32", "n"), tmp_path)
    (tmp_path / "torn.onnx").write_bytes(b"no graph")
    session.open(
        "onnxruntime", Lowered(str(tmp_path / "torn.onnx"), "onnx", SIGNATURE), Execution()
    )
    with pytest.raises(RuntimeFailureError, match=r"^onnxruntime could not compile"):
        session.run({"x": np.ones(1, np.float32)})
    with pytest.raises(RuntimeFailureError, match=r"^nothing is open"):
        session.run({"x": np.ones(1, np.float32)})


def test_a_feed_that_the_model_does_not_take_is_one_line(
    session: WorkerSession, tmp_path: Path
) -> None:
    opened(session, linear(), tmp_path)
    with pytest.raises(RuntimeFailureError, match=r"^onnxruntime could not run") as refused:
        session.run({"x": np.ones((1, 9), np.float32)})
    assert "\n" not in str(refused.value)
    assert session.run({"x": np.ones((1, 4), np.float32)})["y"].shape == (1, 3)


def test_a_crash_names_its_signal_and_this_process_lives_on(tmp_path: Path) -> None:
    candidate = lowered("null", null_model(fail="crash"), tmp_path)
    with in_worker("null", candidate, Execution(), tmp_path) as session:
        for words in ("^crashed while running: SIGSEGV", "the worker process is gone"):
            with pytest.raises(RuntimeFailureError, match=words):
                session.run({"x": np.ones((1, 4), np.float32)})


def test_a_crash_in_the_middle_of_a_stream_is_an_error(tmp_path: Path) -> None:
    candidate = lowered("null", null_model(fail="crash"), tmp_path)
    feeds = [({"x": np.ones((1, 4), np.float32)}, None)] * 3
    with (
        in_worker("null", candidate, Execution(), tmp_path) as session,
        pytest.raises(RuntimeFailureError, match="SIGSEGV"),
    ):
        list(session.stream(feeds))


def test_closing_leaves_no_process_no_descriptor_and_no_file(tmp_path: Path) -> None:
    before = children(), len(os.listdir("/proc/self/fd"))
    candidate = lowered("onnxruntime", linear(), tmp_path)
    scratch = tmp_path / "new"
    with in_worker("onnxruntime", candidate, Execution(), scratch) as session:
        session.run({"x": np.ones((1, 4), np.float32)})
        (pid,) = children() - before[0]
    assert state_of(pid) == ""
    assert (children(), len(os.listdir("/proc/self/fd"))) == before
    assert list(scratch.iterdir()) == []


def test_the_reference_runs_in_a_worker_and_cannot_be_chosen(
    session: WorkerSession, tmp_path: Path
) -> None:
    session.open(EXACT, lowered("onnxruntime", linear(), tmp_path), Execution())
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(
        session.run({"x": x})["y"], run(model_from_proto(linear()), {"x": x})["y"], rtol=1e-6
    )
    with pytest.raises(OptionError, match="one of onnxruntime, openvino"):
        get_runtime(EXACT)
