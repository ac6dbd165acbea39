import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from hasten.errors import ModelError, OutputError
from hasten.graph import (
    Model,
    control_flow,
    model_from_proto,
    read_onnx,
    signature_of,
    unknown_operators,
    write_onnx,
)
from onnx_models import branching, linear, model, run, value


def _written(folder: Path, content: onnx.ModelProto | bytes) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def _message(path: Path) -> str:
    with pytest.raises(ModelError) as raised:
        read_onnx(path)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_the_signature_leaves_out_initializers_and_frees_named_dimensions(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.input.append(value("w", [4, 3]))
    read = read_onnx(_written(tmp_path, proto))
    assert read.name == "net"
    assert [str(spec) for spec in read.signature.inputs] == ["x: float32[?,4]"]
    assert [str(spec) for spec in read.signature.outputs] == ["y: float32[?,3]"]


@pytest.mark.parametrize("ir_version", [3, 9])
def test_constants_that_are_listed_as_inputs_are_constants(ir_version: int, tmp_path: Path) -> None:
    """As they had to be before IR version 4, in which a new constant would need to be listed."""
    proto = linear()
    proto.graph.input.append(value("w", [4, 3]))
    proto.opset_import[0].version = 8
    proto.ir_version = ir_version
    found = read_onnx(_written(tmp_path, proto))
    assert [entry.name for entry in found.graph.graph.input] == ["x"]
    assert found.graph.ir_version == max(4, ir_version)
    x = np.ones((2, 4), np.float32)
    want = run(model_from_proto(linear()), {"x": x})["y"]
    np.testing.assert_array_equal(run(found, {"x": x})["y"], want)


@pytest.mark.parametrize(
    ("elem_type", "name"),
    [(TensorProto.BFLOAT16, "bfloat16"), (TensorProto.STRING, "str"), (TensorProto.BOOL, "bool")],
)
def test_dtypes_have_numpys_names(elem_type: int, name: str) -> None:
    proto = model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [value("x", [2], elem_type)],
        [value("y", [2], elem_type)],
    )
    assert signature_of(proto).inputs[0].dtype == name


def test_an_output_without_a_shape_gets_the_inferred_one() -> None:
    proto = linear()
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert signature_of(proto).outputs[0].shape == (None, 3)


def test_an_input_without_a_shape_is_refused(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    message = _message(_written(tmp_path, proto))
    assert "Expected input x with a known number of dimensions, got no shape" in message


def test_a_sequence_as_output_is_refused_by_name(tmp_path: Path) -> None:
    parts = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    proto = model(
        [helper.make_node("SplitToSequence", ["x"], ["parts"])], [value("x", [4])], [parts]
    )
    assert "Expected a tensor as output parts, got sequence" in _message(_written(tmp_path, proto))


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written = model_from_proto(linear())
    write_onnx(written, tmp_path / "out.onnx")
    assert read_onnx(tmp_path / "out.onnx").digest == written.digest
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]


def test_writing_to_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"^Expected a place to write the model to, got No such"):
        write_onnx(model_from_proto(linear()), tmp_path / "no" / "out.onnx")


def test_a_tflite_is_not_written_as_onnx(tmp_path: Path) -> None:
    tflite = Model("net", b"TFL3", signature_of(linear()))
    with pytest.raises(ModelError, match=r"Expected an ONNX graph, got a \.tflite file"):
        write_onnx(tflite, tmp_path / "out.onnx")


def test_a_missing_file_is_named() -> None:
    assert _message(Path("/no/net.onnx")) == (
        "Expected an .onnx file, got no such file - at /no/net.onnx"
    )


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    assert "got a folder" in _message(tmp_path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    assert "got an empty file" in _message(_written(tmp_path, b""))


def test_truncated_bytes_are_refused(tmp_path: Path) -> None:
    data = linear().SerializeToString()
    assert "that do not parse" in _message(_written(tmp_path, data[: len(data) // 2]))


def test_bytes_that_happen_to_parse_are_refused_for_what_they_lack(tmp_path: Path) -> None:
    message = _message(_written(tmp_path, b"\x12\x03abc"))
    assert "got one without ir_version, opset_import, graph, outputs" in message


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(min_size=1, max_size=300))
def test_other_bytes_are_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    _message(_written(tmp_path, data))


def test_a_graph_that_the_checker_refuses_is_refused_in_one_line(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.node[0].input[1] = "nowhere"
    message = _message(_written(tmp_path, proto))
    assert (
        "Expected a valid ONNX model, got ValidationError: Nodes in a graph must be topologically"
        in message
    )


def test_an_operator_that_onnx_does_not_define_is_refused_with_its_node(tmp_path: Path) -> None:
    proto = linear()
    proto.graph.node[0].op_type = "MatMull"
    message = _message(_written(tmp_path, proto))
    assert "Expected operators of ONNX opset 18, got MatMull (node product)" in message


def test_an_operator_of_a_custom_domain_passes_and_is_listed(tmp_path: Path) -> None:
    node = helper.make_node("Fast", ["x"], ["y"], name="f", domain="com.acme")
    proto = model([node], [value("x", [4])], [value("y", [4])], domains=["com.acme"])
    assert unknown_operators(read_onnx(_written(tmp_path, proto)).graph) == [
        "com.acme::Fast (node f)"
    ]


def test_a_function_of_the_model_itself_is_known(tmp_path: Path) -> None:
    function = helper.make_function(
        "local",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 18)],
    )
    node = helper.make_node("Twice", ["x"], ["y"], domain="local")
    proto = model(
        [node], [value("x", [4])], [value("y", [4])], domains=["local"], functions=[function]
    )
    read = read_onnx(_written(tmp_path, proto))
    assert unknown_operators(read.graph) == []
    np.testing.assert_array_equal(run(read, {"x": np.ones(4, np.float32)})["y"], np.full(4, 2.0))


def test_branches_are_named_as_control_flow() -> None:
    assert control_flow(branching()) == ["If (node choose)"]
    assert control_flow(linear()) == []


def test_sequences_inside_are_named_as_control_flow() -> None:
    proto = model(
        [
            helper.make_node("SplitToSequence", ["x"], ["parts"]),
            helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=0),
        ],
        [value("x", [4])],
        [value("y", [4])],
    )
    assert control_flow(proto) == ["SplitToSequence (node output parts)"]


def test_a_proto_with_its_weights_elsewhere_is_refused() -> None:
    proto = linear()
    _make_external(proto.graph.initializer[0], location="w.bin")
    with pytest.raises(ModelError, match="got external data for tensor w - at ModelProto net"):
        model_from_proto(proto)


# --- external data -----------------------------------------------------------------------------


def _make_external(tensor: onnx.TensorProto, **entries: str) -> bytes:
    data = tensor.raw_data
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, text in entries.items():
        tensor.external_data.add(key=key, value=text)
    return data


def _external(folder: Path, pad: int = 0, /, **entries: str) -> Path:
    """A model whose weight lies in w.bin after ``pad`` bytes, with these entries."""
    proto = linear()
    data = _make_external(proto.graph.initializer[0], **{"location": "w.bin", **entries})
    (folder / "w.bin").write_bytes(b"\0" * pad + data)
    return _written(folder, proto)


def test_external_data_in_the_models_folder_is_read_in(tmp_path: Path) -> None:
    path = _external(tmp_path, 8, offset="8", length="48")
    x = np.ones((2, 4), np.float32)
    read = read_onnx(path)
    assert not read.graph.graph.initializer[0].external_data
    np.testing.assert_array_equal(
        run(read, {"x": x})["y"], run(model_from_proto(linear()), {"x": x})["y"]
    )


def test_external_data_in_a_folder_below_is_read_in(tmp_path: Path) -> None:
    path = _external(tmp_path, location="weights/w.bin")
    (tmp_path / "weights").mkdir()
    (tmp_path / "w.bin").rename(tmp_path / "weights" / "w.bin")
    assert read_onnx(path).digest == model_from_proto(linear()).digest


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "./w.bin", "", "..\\w.bin", "a\nb"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    message = _message(_external(tmp_path, location=location))
    assert "external data in a plain relative path below the model's own folder" in message
    assert "tensor w" in message


def test_external_data_through_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path, location="link.bin")
    (tmp_path / "link.bin").symlink_to(tmp_path / "w.bin")
    assert "without symbolic links, got a link at link.bin" in _message(path)


def test_external_data_in_a_linked_folder_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path, location="etc/passwd")
    (tmp_path / "etc").symlink_to("/etc")
    assert "without symbolic links, got a link at etc" in _message(path)


def test_external_data_with_a_second_hard_link_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path)
    os.link(tmp_path / "w.bin", tmp_path / "again.bin")
    assert "w.bin to have no other hard link, got 2 links" in _message(path)


def test_external_data_that_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path, location="pipe")
    os.mkfifo(tmp_path / "pipe")
    assert "pipe to be a regular file" in _message(path)


def test_external_data_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = _external(tmp_path)
    (tmp_path / "w.bin").unlink()
    assert "external data in w.bin, got No such file or directory" in _message(path)


def test_external_data_past_the_end_of_the_file_is_refused(tmp_path: Path) -> None:
    message = _message(_external(tmp_path, offset="8", length="48"))
    assert "within the 48 bytes of w.bin, got bytes 8 to 56" in message


@pytest.mark.parametrize(("key", "text"), [("offset", "-4"), ("length", "many"), ("offset", "9e9")])
def test_external_data_at_no_whole_number_is_refused(tmp_path: Path, key: str, text: str) -> None:
    message = _message(_external(tmp_path, **{key: text}))
    assert f"a whole number as {key}, got '{text}'" in message


def test_external_data_of_another_length_than_the_shape_needs_is_refused(tmp_path: Path) -> None:
    message = _message(_external(tmp_path, length="44"))
    assert "Expected 48 bytes for float[4,3], got length 44" in message


def test_external_data_in_a_subgraph_is_checked_as_well(tmp_path: Path) -> None:
    proto = branching()
    secret = helper.make_tensor("secret", TensorProto.UINT8, [8], b"\0" * 8, raw=True)
    _make_external(secret, location="/etc/passwd")
    constant = helper.make_node("Constant", [], ["s"], value=secret)
    proto.graph.node[0].attribute[0].g.node.append(constant)
    assert "tensor secret" in _message(_written(tmp_path, proto))


def test_external_data_in_a_function_is_checked_as_well(tmp_path: Path) -> None:
    secret = helper.make_tensor("secret", TensorProto.UINT8, [8], b"\0" * 8, raw=True)
    _make_external(secret, location="../secret")
    function = helper.make_function(
        "local",
        "Leak",
        [],
        ["b"],
        [helper.make_node("Constant", [], ["b"], value=secret)],
        [helper.make_opsetid("", 18)],
    )
    proto = linear()
    proto.functions.append(function)
    assert "tensor secret" in _message(_written(tmp_path, proto))
