"""Models that the command line refuses in one line, or runs though no step takes them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import helper

from command_line import OUT, hasten, refused, with_status
from nets import conv_net, null_net
from onnx_models import branching, model, value

pytestmark = pytest.mark.usefixtures("place")


# The model


def test_a_missing_model_is_named() -> None:
    complaint = refused("absent.onnx")
    assert complaint.startswith("Expected ")
    assert "- at absent.onnx" in complaint


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x08"])
def test_bytes_that_are_no_model_are_refused(content: bytes) -> None:
    Path("bad.onnx").write_bytes(content)
    assert "- at bad.onnx" in refused("bad.onnx")


def test_a_truncated_model_is_refused(net: Path) -> None:
    content = net.read_bytes()
    Path("cut.onnx").write_bytes(content[: len(content) // 2])
    assert "- at cut.onnx" in refused("cut.onnx")


def test_an_unknown_operator_is_named() -> None:
    node = helper.make_node("Quicken", ["x"], ["y"])
    onnx.save(model([node], [value("x", ["n", 4])], [value("y", ["n", 4])]), "odd.onnx")
    assert "Quicken" in refused("odd.onnx")


def test_an_unknown_kind_of_file_is_refused() -> None:
    Path("model.h5").write_bytes(b"\x89HDF")
    assert "model.h5" in refused("model.h5")


def test_a_free_dimension_without_an_example_is_named() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    onnx.save(model([node], [value("x", ["n", "t"])], [value("y", ["n", "t"])]), "free.onnx")
    complaint = refused("free.onnx")
    assert "x" in complaint
    assert "--data" in complaint


def test_a_module_that_cannot_be_imported_is_named() -> None:
    assert "no_such_module" in refused("no_such_module:net")


def test_a_runtime_that_does_not_take_the_model_says_why(net: Path) -> None:
    complaint = hasten("bench", f"{net}@pytorch").complaint
    assert "runs models that come from PyTorch" in complaint


def test_a_damaged_bundle_is_refused() -> None:
    Path("b.hasten").mkdir()
    (Path("b.hasten") / "bundle.json").write_text("{}")
    assert "b.hasten" in hasten("bench", "b.hasten").complaint


# The reference itself


@pytest.mark.parametrize(
    ("fail", "words"),
    [
        ("compile", "could not compile"),
        ("run", "could not run"),
        ("crash", "crashed while running for the first time: SIGSEGV"),
        ("nan", "NaN"),
    ],
)
def test_a_model_that_its_own_runtime_cannot_run_is_refused_in_a_line(
    fail: str, words: str
) -> None:
    net = null_net(Path("null.onnx"), fail=fail)
    assert words in refused(net, runtime="null", time="20s")


@pytest.mark.parametrize("fail", ["hang_compile", "hang_run"])
def test_a_model_that_hangs_ends_with_the_time(fail: str) -> None:
    net = null_net(Path("null.onnx"), fail=fail)
    assert "--time" in refused(net, runtime="null", time="3s")


@pytest.mark.parametrize(
    ("fail", "words"), [("compile", "could not compile"), ("crash", "SIGSEGV")]
)
def test_a_model_that_fails_cannot_be_timed(fail: str, words: str) -> None:
    assert words in hasten("bench", f"{null_net(Path('null.onnx'), fail=fail)}@null").complaint


# Graphs that no step takes


def test_a_model_with_branches_runs_and_steps_are_listed_as_refused() -> None:
    onnx.save(branching(), "branching.onnx")
    done = hasten(
        *("optimize", "branching.onnx", "--out", OUT, "--time", "12s", "--threads", "1"),
        *("--runtime", "onnxruntime", "--json"),
    )
    assert done.status == 0, done.err
    reasons = [one["reason"] for one in done.document["evidence"]["candidates"]]
    assert any("control flow" in reason for reason in reasons)


def sequences(*, given_out: bool = False) -> onnx.ModelProto:
    """x[n,4] cut into a sequence of columns and put together again, or given out as it is cut."""
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["parts"], axis=1),
        helper.make_node("ConcatFromSequence", ["parts"], ["y"], axis=1),
    ]
    column = helper.make_tensor_type_proto(onnx.TensorProto.FLOAT, ["n", 1])
    parts = helper.make_value_info("parts", helper.make_sequence_type_proto(column))
    outputs = [value("y", ["n", 4]), *([parts] if given_out else [])]
    return model(nodes, [value("x", ["n", 4])], outputs)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_sequences_inside_a_model_run_in_runtimes_that_take_them(runtime: str) -> None:
    onnx.save(sequences(), "sequences.onnx")
    flags = ("--threads", "1", "--rounds", "2", "--json")
    done = hasten("bench", f"sequences.onnx@{runtime}", *flags)
    assert done.status == 0, done.err
    assert done.document["latency_ms"]["p50"] > 0


def test_steps_list_sequences_as_refused() -> None:
    onnx.save(sequences(), "sequences.onnx")
    done = hasten(
        *("optimize", "sequences.onnx", "--out", OUT, "--time", "12s", "--threads", "1"),
        *("--runtime", "onnxruntime", "--json"),
    )
    assert done.status == 0, done.err
    assert done.document["plan"]["steps"] == []
    refused = with_status(done.document, "refused")
    assert any("control flow or sequences: SplitToSequence" in one["reason"] for one in refused)


def test_a_sequence_that_a_model_gives_out_is_refused() -> None:
    onnx.save(sequences(given_out=True), "sequences.onnx")
    complaint = refused("sequences.onnx")
    assert "sequence" in complaint
    assert "parts" in complaint


def test_the_net_of_these_tests_is_well_formed() -> None:
    onnx.checker.check_model(conv_net())
