import contextlib
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasten.errors import ModelError
from hasten.graph import TensorSpec, read_tflite
from tflite_models import add_model


def _written(folder: Path, data: bytes) -> Path:
    path = folder / "net.tflite"
    path.write_bytes(data)
    return path


def _message(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        read_tflite(path)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_the_signature_has_the_names_dtypes_and_shapes_of_the_tensors(tmp_path: Path) -> None:
    model = read_tflite(_written(tmp_path, add_model()))
    assert model.format == "tflite"
    assert model.name == "net"
    assert [str(spec) for spec in model.signature.inputs] == [
        "left: float32[1,4]",
        "right: float32[1,4]",
    ]
    assert model.signature.outputs == (TensorSpec("sum", "float32", (1, 4)),)


def test_the_interpreter_runs_the_bytes_and_agrees_with_the_signature(tmp_path: Path) -> None:
    model = read_tflite(_written(tmp_path, add_model()))
    interpreter = Interpreter(model_content=model.payload)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()
    assert [entry["name"] for entry in details] == [spec.name for spec in model.signature.inputs]
    for entry in details:
        interpreter.set_tensor(entry["index"], np.full((1, 4), 1.5, np.float32))
    interpreter.invoke()
    output = interpreter.get_output_details()[0]
    assert output["name"] == model.signature.outputs[0].name
    np.testing.assert_array_equal(interpreter.get_tensor(output["index"]), np.full((1, 4), 3.0))


def test_minus_one_in_the_shape_signature_is_a_free_dimension(tmp_path: Path) -> None:
    model = read_tflite(_written(tmp_path, add_model(signature=[-1, 4])))
    assert model.signature.inputs[0].shape == (None, 4)


def test_a_missing_file_is_named() -> None:
    assert _message(Path("/no/such/net.tflite")) == (
        "Expected a .tflite file, got no such file - at /no/such/net.tflite"
    )


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "got an empty file" in _message(_written(tmp_path, b""))


def test_bytes_without_the_identifier_are_refused(tmp_path: Path) -> None:
    assert "without its identifier TFL3" in _message(_written(tmp_path, b"\x08\x00\x00\x00" * 9))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    assert "Expected a .tflite file, got" in _message(_written(tmp_path, add_model()[:60]))


def test_an_input_index_past_the_tensors_is_refused(tmp_path: Path) -> None:
    message = _message(_written(tmp_path, add_model(inputs=[0, 7])))
    assert "input 1 at tensor 7 of 3" in message


def test_a_dtype_that_arrays_do_not_have_is_refused(tmp_path: Path) -> None:
    message = _message(_written(tmp_path, add_model(dtype=13)))
    assert "got TensorType 13" in message


def test_two_inputs_of_one_name_are_refused(tmp_path: Path) -> None:
    message = _message(_written(tmp_path, add_model(names=("x", "x", "sum"))))
    assert "a name of its own for each input, got x, x" in message


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_damaged_bytes_are_read_or_refused_and_nothing_else(
    tmp_path: Path, data: st.DataObject
) -> None:
    damaged = bytearray(add_model(signature=[-1, 4]))
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ModelError):
        read_tflite(_written(tmp_path, bytes(damaged)))
