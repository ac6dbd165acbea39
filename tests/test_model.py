import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from hasten.errors import ModelError, OptionError
from hasten.graph import AppliedStep, Model, load, model_from_proto, parse_input, read_onnx
from onnx_models import linear
from tflite_models import add_model


def _message(source: Any, scratch: Path) -> str:
    with pytest.raises(ModelError) as raised:
        load(source, scratch=scratch)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_the_digest_is_of_the_bytes_that_are_deployed(tmp_path: Path) -> None:
    net = model_from_proto(linear())
    again = model_from_proto(onnx.ModelProto.FromString(net.payload))
    assert net.digest == again.digest
    assert len(net.digest) == 64


def test_a_step_gives_a_new_model_and_leaves_the_old_one() -> None:
    net = model_from_proto(linear())
    step = AppliedStep("static_int8", {"activations": "uint8", "calibrator": "mse"})
    quantized = net.evolve(linear(), net.signature, step)
    assert quantized.steps == (step,)
    assert str(step) == "static_int8 uint8 mse"
    assert net.steps == ()


def test_a_tflite_has_no_graph() -> None:
    net = Model("net", add_model(), model_from_proto(linear()).signature)
    assert net.format == "tflite"
    with pytest.raises(ModelError, match=r"Expected an ONNX graph, got a \.tflite file - at net"):
        _ = net.graph


def test_files_are_read_by_their_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(linear().SerializeToString())
    (tmp_path / "b.TFLITE").write_bytes(add_model())
    assert load(tmp_path / "a.onnx", scratch=tmp_path).format == "onnx"
    assert load(str(tmp_path / "b.TFLITE"), scratch=tmp_path).tflite is not None


def test_a_proto_is_taken_as_it_is(tmp_path: Path) -> None:
    assert load(linear(), scratch=tmp_path).name == "net"


def test_a_model_comes_back_as_it_is(tmp_path: Path) -> None:
    net = model_from_proto(linear())
    assert load(net, scratch=tmp_path) is net


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("net.keras", "tf.lite.TFLiteConverter"),
        ("net.h5", "tf.lite.TFLiteConverter"),
        ("net.pb", "tf.lite.TFLiteConverter"),
        ("net.pt", "torch.export.save"),
        ("net.pth", "torch.export.save"),
        ("net.safetensors", "weights alone are no model"),
    ],
)
def test_other_formats_are_refused_with_the_way_to_one_that_is_read(
    tmp_path: Path, name: str, hint: str
) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    message = _message(tmp_path / name, tmp_path)
    assert message.startswith("Expected a model: .onnx, .tflite, .pt2 or package.module:callable")
    assert hint in message


def test_a_saved_model_folder_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    message = _message(tmp_path, tmp_path)
    assert "got a TensorFlow SavedModel folder" in message
    assert "TFLiteConverter" in message


def test_another_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    assert "got a folder" in _message(tmp_path, tmp_path)
    assert "got no such file" in _message(tmp_path / "net.bin", tmp_path)
    assert "got no such file" in _message(tmp_path / "net.onnx", tmp_path)


def test_another_object_is_refused_by_its_type(tmp_path: Path) -> None:
    assert "got an object of type int" in _message(3, tmp_path)


def test_inputs_for_a_model_that_brings_its_own_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="brings its own inputs to be given alone, got input x"):
        load(linear(), inputs=[parse_input("x=float32[1,4]")], scratch=tmp_path)


def test_a_module_that_cannot_be_imported_is_refused(tmp_path: Path) -> None:
    assert "a module 'no_such_module' that can be imported" in _message(
        "no_such_module:make", tmp_path
    )


def test_importing_the_room_loads_no_onnx_no_torch_and_no_runtime() -> None:
    heavy = "{'onnx', 'torch', 'onnxslim', 'onnxruntime', 'ai_edge_litert', 'openvino'}"
    code = f"import sys, hasten.graph; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_reading_a_file_loads_no_torch(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(linear().SerializeToString())
    code = (
        "import sys; from pathlib import Path; from hasten.graph import load;"
        f"load({str(path)!r}, scratch=Path('.')); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    assert read_onnx(path).format == "onnx"
