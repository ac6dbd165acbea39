"""``hasten convert``: what it writes, what it compares, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert.interpreter import Interpreter
from onnx import TensorProto, helper

import hasten as package
from command_line import finish, hasten, start
from hasten.graph import model_from_proto, read_onnx, read_tflite
from nets import SIDE, conv_net, images, saved_data, saved_net
from onnx_models import branching, conv_bn, model, run, value, weight

OUT = Path("net.tflite")


pytestmark = pytest.mark.usefixtures("place")


@pytest.fixture
def net(place: Path) -> Path:
    return saved_net(place)


def saved(proto: onnx.ModelProto, name: str = "model.onnx") -> str:
    onnx.save(proto, name)
    return name


def outputs(path: Path, feed: np.ndarray) -> np.ndarray:
    """The only output of a .tflite with one input."""
    interpreter = Interpreter(str(path))
    (given,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(given["index"], feed.shape, strict=True)
    interpreter.allocate_tensors()
    interpreter.set_tensor(given["index"], feed)
    interpreter.invoke()
    (made,) = interpreter.get_output_details()
    return np.asarray(interpreter.get_tensor(made["index"]))


def test_the_file_gives_what_the_graph_gives_for_any_batch(net: Path) -> None:
    done = hasten("convert", net, "--to", "tflite", "--out", OUT)

    assert done.status == 0, done.err
    for count in (1, 5):
        want = run(read_onnx(net), {"x": images(count)})["y"]
        np.testing.assert_allclose(outputs(OUT, images(count)), want, rtol=1e-4, atol=1e-5)


def test_the_report_says_how_far_outputs_part_and_what_is_free(net: Path) -> None:
    found = hasten("convert", net, "--to", "tflite", "--out", OUT, "--json").document

    assert found["free"] == ["axis 0 of x"]
    assert found["size_bytes"] == OUT.stat().st_size
    agreement = found["agreement"]
    assert (agreement["left"], agreement["right"]) == ("onnxruntime", "litert")
    assert agreement["synthetic"]
    assert 0 <= agreement["differences"][0]["relative"] < 1e-4 < agreement["allowed"]


def test_it_is_said_in_words_too(net: Path) -> None:
    done = hasten("convert", net, "--to", "tflite", "--out", OUT)

    words = " ".join(done.out.split())
    assert "litert differs from onnxruntime by at most" in words
    assert "free axis 0 of x" in words


def test_samples_of_the_users_are_compared_on(net: Path, place: Path) -> None:
    data = saved_data(place)

    done = hasten("convert", net, "--to", "tflite", "--out", OUT, "--data", data, "--json")

    assert not done.document["agreement"]["synthetic"]


def test_operators_are_listed_with_versions(net: Path) -> None:
    done = hasten("convert", net, "--to", "tflite", "--out", OUT, "--report-ops", "--json")

    listed = [(one["name"], one["version"]) for one in done.document["operators"]]
    assert ("CONV_2D", 1) in listed
    assert ("FULLY_CONNECTED", 1) in listed
    shown = hasten("convert", net, "--to", "tflite", "--out", OUT, "--report-ops", "--force")
    assert "CONV_2D" in shown.out


def test_an_image_is_taken_with_its_channels_last_where_asked(net: Path) -> None:
    done = hasten("convert", net, "--to", "tflite", "--out", OUT, "--nhwc", "x", "--json")

    assert done.document["signature"]["inputs"][0]["shape"] == [None, SIDE, SIDE, 3]
    assert "TRANSPOSE" not in {one["name"] for one in done.document["operators"]}
    feed = images(1)
    want = run(read_onnx(net), {"x": feed})["y"]
    last = np.ascontiguousarray(feed.transpose(0, 2, 3, 1))
    np.testing.assert_allclose(outputs(OUT, last), want, rtol=1e-4, atol=1e-5)


def test_an_onnx_file_is_the_cleaned_graph(place: Path) -> None:
    name = saved(conv_bn())

    done = hasten("convert", name, "--to", "onnx", "--out", "clean.onnx", "--json")

    assert done.document["agreement"]["differences"][0]["relative"] < 1e-4
    kinds = {node.op_type for node in read_onnx("clean.onnx").graph.graph.node}
    assert "BatchNormalization" not in kinds


def test_a_batch_that_cannot_be_free_is_said_with_its_reason(place: Path) -> None:
    name = saved(
        model(
            [helper.make_node("Reshape", ["x", "shape"], ["y"])],
            [value("x", ["n", 4])],
            [value("y", [4, "m"])],
            [onnx.numpy_helper.from_array(np.array([4, -1]), "shape")],
        )
    )

    found = hasten("convert", name, "--to", "tflite", "--out", OUT, "--json").document

    assert found["signature"]["inputs"][0]["shape"] in ([1, 4], [None, 4])
    if not found["free"]:
        assert any("batch is fixed at 1" in note for note in found["notes"])


def test_an_existing_file_is_kept_unless_forced(net: Path) -> None:
    OUT.write_bytes(b"mine")

    complaint = hasten("convert", net, "--to", "tflite", "--out", OUT).complaint

    assert complaint == (
        "Expected a path that is free, got something that exists - at net.tflite"
        " (choose another, or give --force to replace it)"
    )
    assert OUT.read_bytes() == b"mine"
    assert hasten("convert", net, "--to", "tflite", "--out", OUT, "--force").status == 0
    assert read_tflite(OUT).signature.inputs[0].name == "x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "tflite", "--out", "y.onnx"], "Expected a file that ends in .tflite, got y.onnx"),
        (
            ["--to", "onnx", "--out", "y.onnx", "--report-ops"],
            "Expected --to tflite, got --to onnx",
        ),
        (["--to", "onnx", "--out", "y.onnx", "--nhwc", "x"], "Expected --nhwc with --to tflite"),
        (
            ["--to", "tflite", "--out", "y.tflite", "--nhwc", "z"],
            "Expected an input with channels: x, got 'z'",
        ),
        (["--to", "tflite", "--out", "net.onnx/y.tflite"], "Expected a place to write the model"),
        (["--to", "coreml", "--out", "y"], "Invalid value"),
        (["--to", "tflite", "--out", "y.tflite", "--data", "no.npz"], "Expected"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(
    net: Path, arguments: list[str], message: str
) -> None:
    complaint = hasten("convert", net, *arguments).complaint

    assert message in complaint
    assert sorted(os.listdir()) == ["net.onnx"]


def test_every_node_without_an_equal_is_named_and_nothing_is_written(place: Path) -> None:
    name = saved(branching())

    complaint = hasten("convert", name, "--to", "tflite", "--out", OUT).complaint

    assert "If (node choose)" in complaint
    assert not OUT.exists()


def test_sizes_that_are_free_beside_the_batch_are_named(place: Path) -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    name = saved(model(relu, [value("x", ["n", "length"])], [value("y", ["n", "length"])]))

    complaint = hasten("convert", name, "--to", "tflite", "--out", OUT).complaint

    assert "x" in complaint
    assert not OUT.exists()


def test_numbers_that_part_too_far_leave_no_file(place: Path) -> None:
    """A product less its two halves is noise, of each runtime's own."""
    whole = np.random.default_rng(0).normal(size=(999, 7)).astype(np.float32)
    even = whole * (np.arange(999) % 2 == 0)[:, None].astype(np.float32)
    weights = {"whole": whole, "even": even, "odd": whole - even}
    products = [helper.make_node("MatMul", ["x", name], [f"by_{name}"]) for name in weights]
    name = saved(
        model(
            [
                *products,
                helper.make_node("Sub", ["by_whole", "by_even"], ["rest"]),
                helper.make_node("Sub", ["rest", "by_odd"], ["y"]),
            ],
            [value("x", ["n", 999])],
            [value("y", ["n", 7])],
            [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
    )

    complaint = hasten("convert", name, "--to", "tflite", "--out", OUT).complaint

    assert complaint.startswith(
        "converting model: output y (scores) of litert differs from onnxruntime: its noise is "
    )
    assert "0.001 is allowed (7 random samples; --data gives real ones)" in complaint
    assert "; it begins at tensor y, made by Sub" in complaint
    assert complaint.endswith("nothing was written")
    assert not OUT.exists()


def test_only_its_own_words_reach_the_terminal(net: Path) -> None:
    """LiteRT announces its delegate past Python, which only a process of its own shows."""
    done = finish(start("convert", "net.onnx", "--to", "tflite", "--out", OUT, folder=net.parent))

    assert (done.status, done.err) == (0, "")


def test_a_pytorch_model_becomes_either_format(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("nets_here.py").write_text(
        "import torch\n\n\ndef net():\n    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.GELU()).eval()\n"
    )
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(place.parent / "inductor"))  # PyTorch's own
    for to, right in (("onnx", "pytorch"), ("tflite", "onnxruntime")):
        done = hasten(
            *("convert", "nets_here:net", "--to", to, "--out", f"net.{to}", "--json"),
            *("--input", "x=float32[batch,6]"),
        )
        assert done.document["agreement"]["left"] == right


def test_python_users_convert_with_a_function(place: Path) -> None:
    found = package.convert(model_from_proto(conv_net(), "net"), to="tflite", out=OUT)

    assert found.agreement.largest.relative < 1e-4
    assert found.path == str(OUT)


def test_integer_outputs_are_compared_too(place: Path) -> None:
    proto = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Cast", ["h"], ["y"], to=TensorProto.INT32),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 3], TensorProto.INT32)],
        [weight("w", 4, 3)],
    )

    found = package.convert(proto, to="tflite", out=OUT)

    assert found.agreement.differences[0].relative == 0
