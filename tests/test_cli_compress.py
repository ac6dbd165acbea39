"""The verbs of one step, and recipes, as a user meets them on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from command_line import hasten
from hasten.graph import read_onnx, read_tflite
from nets import images, labels

#: Both models are judged, and not timed: what times say is not for a test.
UNTIMED = ("--rounds", "0")


@pytest.fixture(autouse=True)
def place(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HASTEN_CACHE", str(tmp_path / "cache"))
    # torch's optimizers make this folder, without it among the temporary files.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    return place


# One step alone


def test_quantize_writes_a_graph_in_int8(net: Path, data: Path) -> None:
    done = hasten("quantize", net, "--data", data, "--out", "q.onnx", *UNTIMED, "--json")

    assert done.status == 0, done.err
    pair = done.document["pair"]
    assert pair["metric"] == "top1"
    assert pair["before"]["metric"] == 1.0
    assert pair["after"]["metric"] >= 0.9
    assert pair["after"]["size_bytes"] < pair["before"]["size_bytes"]
    assert [step["step"] for step in done.document["steps"]] == ["static_int8"]
    operators = {node.op_type for node in read_onnx("q.onnx").graph.graph.node}
    assert "QuantizeLinear" in operators


def test_quantize_prepares_the_channels_first(net: Path, data: Path) -> None:
    done = hasten(
        *("quantize", net, "--data", data, "--equalize", "--smooth", "0.5", "--weights", "w4"),
        *("--rounding", "adaptive", "--out", "q.onnx", *UNTIMED, "--json"),
    )

    assert done.status == 0, done.err
    found = [step["step"] for step in done.document["steps"]]
    assert found == ["equalize", "smooth_activations", "static_int8"]


def test_a_file_for_litert_is_asked_for_by_its_suffix(net: Path, data: Path) -> None:
    done = hasten("quantize", net, "--data", data, "--out", "q.tflite", *UNTIMED, "--json")

    assert done.document["pair"]["runtime"] == "litert"
    assert read_tflite("q.tflite").signature.inputs[0].name == "x"


def test_prune_leaves_a_plain_smaller_graph(net: Path) -> None:
    done = hasten("prune", net, "--ratio", "0.5", "--out", "p.onnx", *UNTIMED, "--json")

    pair = done.document["pair"]
    assert pair["after"]["parameters"] < 0.5 * pair["before"]["parameters"]
    assert read_onnx("p.onnx").signature == read_onnx(net).signature


@pytest.mark.parametrize("goal", [("--sparsity", "0.5"), ("--pattern", "2:4")])
def test_zeros_show_in_the_compressed_file(net: Path, goal: tuple[str, str]) -> None:
    done = hasten("prune", net, *goal, "--out", "p.onnx", *UNTIMED, "--json")

    before, after = done.document["pair"]["before"], done.document["pair"]["after"]
    assert after["zero_share"] == pytest.approx(0.5, abs=0.03)
    assert after["compressed_bytes"] < before["compressed_bytes"]
    assert after["size_bytes"] == before["size_bytes"]


def test_distill_compares_the_teacher_with_the_student(net: Path, data: Path) -> None:
    done = hasten(
        *("distill", net, "--ratio", "0.5", "--train", data, "--data", data, "--epochs", "2"),
        *("--out", "d.onnx", *UNTIMED, "--json"),
    )

    assert done.status == 0, done.err
    pair = done.document["pair"]
    assert (pair["before"]["label"], pair["after"]["label"]) == ("teacher", "student")
    assert pair["after"]["parameters"] < pair["before"]["parameters"]


def test_distill_takes_a_student_of_its_own(net: Path, data: Path) -> None:
    hasten("prune", net, "--out", "student.onnx", *UNTIMED)
    done = hasten(
        *("distill", net, "--student", "student.onnx", "--train", data, "--epochs", "1"),
        *("--out", "d.onnx", *UNTIMED, "--json"),
    )

    assert done.status == 0, done.err
    assert [step["step"] for step in done.document["steps"]] == ["distill"]


def test_finetune_trains_for_int8_without_labels(net: Path) -> None:
    np.savez("unlabelled.npz", x=images(24))
    done = hasten(
        *("finetune", net, "--train", "unlabelled.npz", "--int8", "--epochs", "1"),
        *("--out", "f.onnx", *UNTIMED, "--json"),
    )

    assert done.status == 0, done.err
    assert done.document["steps"][0]["step"] == "train_quantized"
    assert done.document["pair"]["metric"] == "fidelity"


def test_quantize_leaves_blocks_in_float_where_too_much_is_lost(net: Path) -> None:
    shift = np.random.default_rng(1).normal(scale=2, size=(96, 3, 1, 1))
    values = (images(96) + shift).astype(np.float32)  # of several classes
    np.savez("several.npz", x=values, labels=labels(values))
    arguments = ("quantize", net, "--data", "several.npz", "--weights", "w4", *UNTIMED, "--json")
    lossy = hasten(*arguments, "--out", "lossy.onnx").document["pair"]
    assert lossy["drop"] > 0

    done = hasten(*arguments, "--max-drop", "0", "--time", "10s", "--out", "q.onnx")

    assert done.document["pair"]["drop"] < lossy["drop"]
    assert any(note.startswith("mixed precision") for note in done.document["notes"])


def test_a_goal_that_is_not_met_is_named_and_the_file_written(net: Path, data: Path) -> None:
    done = hasten(
        *("prune", net, "--sparsity", "0.99", "--data", data, "--max-drop", "0.01"),
        *("--out", "p.onnx", *UNTIMED),
    )

    assert done.status == 1
    assert "NOT MET: loses" in done.out
    assert Path("p.onnx").is_file()


@pytest.mark.quiet
def test_both_models_are_timed_in_pairs(net: Path, data: Path) -> None:
    done = hasten("prune", net, "--data", data, "--out", "p.onnx", "--rounds", "2")

    assert done.status == 0, done.err
    assert "latency p50" in done.out
    assert "top1" in done.out
    assert "prune_channels magnitude multiple=8, measured on onnxruntime: p.onnx" in done.out


# What is refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("quantize", "--out", "o.onnx"), "Expected calibration samples, got none"),
        (("prune", "--out", "o.txt"), "Expected a file that ends in .onnx or .tflite, got o.txt"),
        (("prune", "--out", "o.onnx", "--ratio", "1.5"), "got 1.5 - at --ratio"),
        (("prune", "--out", "o.onnx", "--pattern", "2-4"), "got '2-4' - at --pattern"),
        (
            ("prune", "--out", "o.onnx", "--ratio", "0.5", "--sparsity", "0.5"),
            "Expected one goal, got --ratio and --sparsity",
        ),
        (("quantize", "--out", "o.onnx", "--smooth", "2"), "got 2.0 - at --smooth"),
        (
            ("prune", "--out", "o.onnx", "--timed-as", "int8"),
            "which is what is timed, got int8 without one - at --timed-as",
        ),
        (
            ("prune", "--out", "o.onnx", "--sparsity", "0.5", "--importance", "taylor"),
            "Expected settings that --sparsity has a use for, got --importance - at hasten prune",
        ),
        (
            ("prune", "--out", "o.onnx", "--pattern", "2:4", "--scope", "layer"),
            "Expected settings that --pattern has a use for, got --scope",
        ),
        (
            ("prune", "--out", "o.onnx", "--scope", "layer"),
            "Expected settings that a goal in channels has a use for, got --scope",
        ),
        (("prune", "--out", "o.onnx", "--multiple", "64"), "no group has more than 16 channels"),
        (
            ("distill", "--out", "o.onnx", "--train", "t.npz"),
            "Expected one of --student and --ratio, got none",
        ),
        (
            ("finetune", "--out", "o.onnx", "--train", "t.npz"),
            "Expected labels to train with, got none - at finetune",
        ),
        (
            ("finetune", "--out", "o.onnx", "--train", "t.npz", "--epochs", "0"),
            "got 0 - at --epochs",
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    net: Path, arguments: tuple[str, ...], said: str
) -> None:
    np.savez("t.npz", x=images(8))
    verb, *flags = arguments

    assert said in hasten(verb, net, *flags, *UNTIMED).complaint
    assert not Path("o.onnx").exists()


def test_a_file_that_is_there_stays(net: Path) -> None:
    Path("p.onnx").write_text("mine")

    complaint = hasten("prune", net, "--out", "p.onnx", *UNTIMED).complaint

    assert "give --force to replace it" in complaint
    assert Path("p.onnx").read_text() == "mine"


def test_a_teacher_of_other_outputs_is_refused(net: Path, data: Path) -> None:
    teacher = onnx.load(net)
    teacher.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("flat", onnx.TensorProto.FLOAT, ["n", 16])
    )
    onnx.save(teacher, "teacher.onnx")

    done = hasten(
        *("distill", "teacher.onnx", "--student", net, "--train", data, "--out", "d.onnx"),
        *("--epochs", "1", *UNTIMED),
    )

    assert "- at teacher" in done.complaint


# Recipes


def test_a_recipe_is_applied_raced_and_entered_into_the_ledger(net: Path, data: Path) -> None:
    Path("small.toml").write_text(
        'name = "small"\n[[steps]]\nstep = "prune_channels"\nratio = 0.5\n'
        '[[steps]]\nstep = "distill"\nepochs = 1\n[[steps]]\nstep = "static_int8"\n'
    )

    done = hasten(
        *("optimize", net, "--data", data, "--train", data, "--recipe", "small.toml"),
        *("--out", "b.hasten", "--max-drop", "1", "--time", "12s", "--runtime", "litert", "--json"),
    )

    assert done.status == 0, done.err
    evidence = done.document["evidence"]
    chains = {tuple(step["step"] for step in one["steps"]) for one in evidence["candidates"]}
    assert chains == {(), ("prune_channels", "distill", "static_int8")}
    assert "beside the reference, only the graph of small raced" in evidence["notes"]
    assert {path.suffix for path in Path("../cache/steps").iterdir()} >= {".model"}
    if done.document["plan"]["steps"]:
        ledger = [entry["step"].split()[0] for entry in evidence["ledger"]]
        assert ledger[:3] == ["prune_channels", "distill", "static_int8"]


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ('[[steps]]\nstep = "polish"', (), "got 'polish' - at r.toml: steps[0].step"),
        ('[[steps]]\nstep = "distill"', (), "Expected training samples, got none"),
        (
            '[[steps]]\nstep = "prune_channels"\nmultiple = 64',
            (),
            "r.toml: steps[0] (prune_channels): no group has more than 16 channels",
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed_writes_nothing(
    net: Path, data: Path, text: str, flags: tuple[str, ...], said: str
) -> None:
    Path("r.toml").write_text(text)

    done = hasten(
        *("optimize", net, "--data", data, "--recipe", "r.toml", "--out", "b.hasten", *flags)
    )

    assert said in done.complaint
    assert not Path("b.hasten").exists()


def test_samples_to_train_on_need_a_recipe(net: Path, data: Path) -> None:
    done = hasten("optimize", net, "--data", data, "--train", data, "--out", "b.hasten")

    assert "Expected --recipe beside --train" in done.complaint


def test_without_the_cache_nothing_is_kept(net: Path) -> None:
    hasten("prune", net, "--out", "p.onnx", "--no-cache", *UNTIMED)

    assert not Path("../cache").exists()


def test_json_is_one_document(net: Path) -> None:
    done = hasten("prune", net, "--out", "p.onnx", *UNTIMED, "--json")

    assert json.loads(done.out)["path"] == "p.onnx"
