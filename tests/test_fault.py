"""Whose fault a failure is, by what ONNX Runtime says of graphs that fail for some inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.errors import InvalidRequestError, RuntimeFailureError
from hasten.graph import model_from_proto
from hasten.runtimes import Execution, get_runtime
from hasten.serve.engine.fault import Blame, fault_of
from hasten.serve.engine.suspects import Origin
from onnx_models import model, value
from served_models import failing

HUGE = np.array([10**7, 10**7], np.int64)


def filling(name: str) -> onnx.ModelProto:
    """x[2] to zeros of that shape."""
    node = helper.make_node("ConstantOfShape", ["x"], ["y"], name=name)
    return model([node], [value("x", [2], TensorProto.INT64)], [value("y", ["a", "b"])])


def error_of(proto: onnx.ModelProto, x: np.ndarray, folder: Path) -> RuntimeFailureError:
    """What a real session says of this input."""
    runtime = get_runtime("onnxruntime")
    session = runtime.open(runtime.lower(model_from_proto(proto, "net"), folder), Execution())
    try:
        with pytest.raises(RuntimeFailureError) as caught:
            session.run({"x": x})
    finally:
        session.close()
    return caught.value


@pytest.mark.parametrize("kind", ["gather", "divide", "modulo", "scatter", "guard"])
def test_a_value_that_cannot_be_computed_with_is_the_inputs_fault(
    kind: str, tmp_path: Path
) -> None:
    proto, _, bad = failing(kind)
    assert fault_of(error_of(proto, bad, tmp_path)) == "input"


@pytest.mark.parametrize("name", ["", "division by zero"])
def test_memory_that_is_not_there_is_no_fault_of_the_input(name: str, tmp_path: Path) -> None:
    error = error_of(filling(name), HUGE, tmp_path)
    assert fault_of(error) == "machine"
    assert Blame().of(error, None, well=True) is error


def test_what_the_runtime_does_not_say_others_do(tmp_path: Path) -> None:
    proto, _, bad = failing("parse")
    error = error_of(proto, bad, tmp_path)
    assert fault_of(error) == "unknown"
    blame, origins = Blame(), [Origin(str(at)) for at in range(4)]
    kinds = [type(blame.of(error, origin, well=False)) for origin in origins]
    assert kinds == [InvalidRequestError] * 2 + [RuntimeFailureError] * 2
    assert isinstance(blame.of(error, origins[0], well=True), InvalidRequestError)
    blame.answered()
    assert isinstance(blame.of(error, origins[0], well=False), InvalidRequestError)


def test_a_model_that_never_answered_is_not_taken_to_be_well(tmp_path: Path) -> None:
    proto, _, bad = failing("parse")
    error, blame = error_of(proto, bad, tmp_path), Blame(well=False)
    assert blame.of(error, None, well=False) is error
    blame.answered()
    assert isinstance(blame.of(error, None, well=False), InvalidRequestError)


def test_one_client_that_always_fails_says_nothing_of_the_model(tmp_path: Path) -> None:
    proto, _, bad = failing("parse")
    error, blame, origin = error_of(proto, bad, tmp_path), Blame(), Origin()
    for _ in range(10):
        assert isinstance(blame.of(error, origin, well=False), InvalidRequestError)


def test_names_in_the_model_are_not_taken_for_what_went_wrong(tmp_path: Path) -> None:
    numbers = numpy_helper.from_array(np.zeros(3, np.float32), "numbers")
    node = helper.make_node("Gather", ["numbers", "x"], ["y"], name="out of memory")
    proto = model([node], [value("x", ["n"], TensorProto.INT64)], [value("y", ["n"])], [numbers])
    assert fault_of(error_of(proto, np.array([9]), tmp_path)) == "input"
