"""Runs in memory that is used again give what runs of the same rows give."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from hasten.errors import RuntimeFailureError
from hasten.graph import model_from_proto, numpy_dtype
from hasten.runtimes import Execution, Lowered, Session, bind, get_runtime
from hasten.runtimes.binding import CopyBinding
from nets import conv_net
from served_models import identity, scaled, two_sizes

SIZES = (1, 2, 3, 4, 7, 8)


class Opened:
    """A model in a runtime; a session of its own for whoever asks."""

    def __init__(self, runtime: str, folder: Path, *, instances: int = 1) -> None:
        self._runtime = get_runtime(runtime)
        self.lowered: Lowered = self._runtime.lower(model_from_proto(conv_net(), "net"), folder)
        self._execution = Execution(instances=instances)
        self.sessions: list[Session] = []

    def session(self) -> Session:
        session = self._runtime.open(self.lowered, self._execution)
        self.sessions.append(session)
        return session


@pytest.fixture(params=["onnxruntime", "litert", "litert-shared", "openvino"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    runtime, _, shared = request.param.partition("-")
    found = Opened(runtime, tmp_path, instances=2 if shared else 1)
    yield found
    for session in found.sessions:
        session.close()


def images(rows: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 3, 12, 12)).astype(np.float32)


@pytest.mark.parametrize("rows", SIZES)
def test_a_binding_gives_what_a_run_gives(opened: Opened, rows: int) -> None:
    session, other = opened.session(), opened.session()
    binding = bind(session, opened.lowered.signature, rows)
    assert binding is not None
    for seed in range(3):
        x = images(rows, seed)
        np.copyto(binding.inputs()[0], x)
        binding.run()
        (y,) = (array.copy() for array in binding.outputs())
        assert y.shape == (rows, 10)
        assert np.allclose(y, other.run({"x": x})["y"], atol=1e-4)


def test_rows_that_were_not_filled_do_not_change_those_that_were(opened: Opened) -> None:
    session = opened.session()
    binding = bind(session, opened.lowered.signature, 8)
    assert binding is not None
    x = images(3, 0)
    answers = []
    for seed in (1, 2):
        np.copyto(binding.inputs()[0], images(8, seed))
        np.copyto(binding.inputs()[0][:3], x)
        binding.run()
        answers.append(binding.outputs()[0][:3].copy())
    first, second = answers
    assert np.array_equal(first, second)


def test_a_binding_holds_while_the_session_runs_other_rows(tmp_path: Path) -> None:
    one = Opened("onnxruntime", tmp_path)
    session = one.session()
    x = images(2, 0)
    expected = session.run({"x": x})["y"]
    binding = bind(session, one.lowered.signature, 2)
    assert binding is not None
    for rows in (1, 5, 2):
        session.run({"x": images(rows, rows)})
        np.copyto(binding.inputs()[0], x)
        binding.run()
        assert np.array_equal(binding.outputs()[0], expected)


@pytest.mark.parametrize(
    "datatype", ["BOOL", "UINT8", "INT8", "UINT16", "INT64", "UINT64", "FP16", "BF16", "FP64"]
)
def test_onnxruntime_binds_every_dtype_of_numbers(tmp_path: Path, datatype: str) -> None:
    runtime = get_runtime("onnxruntime")
    lowered = runtime.lower(model_from_proto(identity(datatype), "same"), tmp_path)
    session = runtime.open(lowered, Execution())
    binding = bind(session, lowered.signature, 2)
    assert binding is not None
    assert not isinstance(binding, CopyBinding)
    x = np.array([[0, 1, 1], [1, 0, 1]]).astype(numpy_dtype(lowered.signature.inputs[0].dtype))
    np.copyto(binding.inputs()[0], x)
    binding.run()
    assert binding.outputs()[0].tolist() == x.tolist()
    assert session.run({"x": x})["y"].tolist() == x.tolist()


def test_texts_are_bound_whole(tmp_path: Path) -> None:
    runtime = get_runtime("onnxruntime")
    lowered = runtime.lower(model_from_proto(identity("BYTES"), "same"), tmp_path)
    session = runtime.open(lowered, Execution())
    binding = bind(session, lowered.signature, 1)
    assert binding is not None
    texts = np.array([["", "long enough", "straße"]], object)
    np.copyto(binding.inputs()[0], texts)
    binding.run()
    assert binding.outputs()[0].tolist() == texts.tolist()


@pytest.mark.parametrize("proto", [scaled(2.0, ("n", "m")), two_sizes()])
def test_nothing_is_bound_where_more_than_the_rows_is_free(
    tmp_path: Path, proto: onnx.ModelProto
) -> None:
    runtime = get_runtime("onnxruntime")
    lowered = runtime.lower(model_from_proto(proto, "free"), tmp_path)
    session = runtime.open(lowered, Execution())
    assert bind(session, lowered.signature, 2) is None


def test_bfloat16_of_a_shape_that_does_not_fit_fails_in_one_line(tmp_path: Path) -> None:
    runtime = get_runtime("onnxruntime")
    lowered = runtime.lower(model_from_proto(identity("BF16"), "same"), tmp_path)
    session = runtime.open(lowered, Execution())
    x = np.zeros((2, 5), numpy_dtype("bfloat16"))
    with pytest.raises(RuntimeFailureError, match="shapes that only the batch decides"):
        session.run({"x": x})
