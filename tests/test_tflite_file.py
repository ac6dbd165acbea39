import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hasten.errors import ModelError
from hasten.graph import TensorSpec, read_tflite
from tflite_models import add_model
from tflite_operators import File


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
    assert model.format == "onnx"
    assert model.name == "net"
    assert [str(spec) for spec in model.signature.inputs] == [
        "left: float32[1,4]",
        "right: float32[1,4]",
    ]
    assert model.signature.outputs == (TensorSpec("sum", "float32", (1, 4)),)


def test_the_interpreter_runs_the_bytes_and_agrees_with_the_signature(tmp_path: Path) -> None:
    model = read_tflite(_written(tmp_path, add_model()))
    assert model.tflite is not None
    interpreter = Interpreter(model_content=model.tflite.content)
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


def _edited(edit: Callable[[File], None], **more: Any) -> bytes:
    """A file that computes y = x + c, after ``edit``."""
    file = File()
    x, c = file.input("x", (1, 4), **more), file.constant([1.0, 2, 3, 4], name="c")
    y = file.tensor("y", (1, 4))
    file.operator("ADD", [x, c], [y], "AddOptions")
    file.graph.outputs = [y]
    edit(file)
    return file.output(*file.graph.outputs)


def _scaled(scale: list[float], points: list[int], axis: int = 0) -> Callable[[File], None]:
    def edit(file: File) -> None:
        file.tensor("q", (2, 3), "int8", scale=scale, zero_point=points, axis=axis)

    return edit


def _tensor(at: int, **fields: Any) -> Callable[[File], None]:
    def edit(file: File) -> None:
        for name, value in fields.items():
            setattr(file.graph.tensors[at], name, value)

    return edit


def _operator(**fields: Any) -> Callable[[File], None]:
    def edit(file: File) -> None:
        for name, value in fields.items():
            setattr(file.graph.operators[0], name, value)

    return edit


def _outside(file: File) -> None:
    file.model.buffers[1].data = None
    file.model.buffers[1].offset, file.model.buffers[1].size = 10, 2**62


DAMAGED: dict[str, tuple[Callable[[File], None], str]] = {
    "a buffer that is too short": (
        _tensor(1, shape=[5]),
        "tensor 1 with 16 bytes for float32[5], which has 20",
    ),
    "a size that overflows": (
        _tensor(1, shape=[2**30, 2**30, 2**30]),
        "tensor 1 with 16 bytes for float32[1073741824, 1073741824, 1073741824], which has",
    ),
    "a buffer that is not there": (_tensor(1, buffer=9), "tensor 1 with buffer 9 of 2"),
    "a buffer outside of the file": (_outside, "tensor 1 with bytes 10 to"),
    "too many dimensions": (_tensor(0, shape=[1] * 65), "tensor 0 with 65 dimensions"),
    "a negative dimension": (_tensor(0, shape=[1, -7]), "tensor 0 with shape [1, -7]"),
    "a signature of another rank": (
        _tensor(0, shapeSignature=[-1]),
        "tensor 0 with shape [1, 4] and shape signature [-1]",
    ),
    "a name that is not UTF-8": (_tensor(0, name=b"\xff\xfe"), "that is not UTF-8"),
    "a negative scale": (_scaled([-0.5], [0]), "tensor 3 with a scale of -0.5"),
    "a scale that is no number": (_scaled([float("nan")], [0]), "tensor 3 with a scale of nan"),
    "a zero point outside of the dtype": (_scaled([0.5], [300]), "a zero point outside of int8"),
    "scales of another number": (_scaled([1, 1], [0, 0], 1), "2 scales along axis 1 of [2, 3]"),
    "zero points of another number": (_scaled([1, 1], [0] * 3), "2 scales and 3 zero points"),
    "an operator code that is not there": (_operator(opcodeIndex=4), "operator 0 of code 4 of 1"),
    "an operand that is not there": (
        _operator(inputs=[0, 8]),
        "operator 0 (ADD): input 1 at tensor 8 of 3",
    ),
    "an operator that reads its own output": (
        _operator(inputs=[0, 2]),
        "operator 0 (ADD) that reads tensor 2 before anything writes it",
    ),
    "an operator that writes a constant": (
        _operator(outputs=[1]),
        "operator 0 (ADD) that writes tensor 1, which is written already",
    ),
    "options of another operator": (
        _operator(
            builtinOptionsType=schema.BuiltinOptions.SplitOptions,
            builtinOptions=schema.SplitOptionsT(),
        ),
        "operator 0 (ADD) with SplitOptions",
    ),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_what_contradicts_itself_is_named(what: str, tmp_path: Path) -> None:
    edit, words = DAMAGED[what]
    message = _message(_written(tmp_path, _edited(edit)))
    assert words in message
    assert message.startswith("Expected a .tflite file, got ")


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    def edit(file: File) -> None:
        file.model.version = 2

    assert "schema version 2 instead of 3" in _message(_written(tmp_path, _edited(edit)))


def test_operators_that_write_nothing_leave_the_file_as_it_is(tmp_path: Path) -> None:
    def edit(file: File) -> None:
        file.operator("CALL_ONCE", [], [])

    model = read_tflite(_written(tmp_path, _edited(edit)))
    assert model.format == "tflite"
    assert model.tflite is not None
    assert model.tflite.refusal == "no ONNX equal of: CALL_ONCE (operator 1, CALL_ONCE_1)"


def test_constants_behind_the_tables_are_read(tmp_path: Path) -> None:
    def edit(file: File) -> None:
        file.model.buffers[1].data = None
        file.model.buffers[1].offset, file.model.buffers[1].size = 8, 16

    content = _edited(edit)
    model = read_tflite(_written(tmp_path, content))
    (held,) = model.graph.graph.initializer
    assert held.raw_data == content[8:24]


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
