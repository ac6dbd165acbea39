"""What the command line says of input that cannot be used: one line, status 2, nothing written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from command_line import Done, empty_place, finish, hasten, start, with_status
from nets import SIDE, conv_net, images, null_net, saved_data, saved_net
from onnx_models import branching, model, value

OUT = "out.hasten"


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_net(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    yield from empty_place(tmp_path, monkeypatch)


def refused(*arguments: object, **more: object) -> str:
    """Optimise with these; returns the complaint."""
    flags = [f"--{name.replace('_', '-')}={given}" for name, given in more.items()]
    complaint = hasten("optimize", *arguments, "--out", OUT, *flags).complaint
    assert not Path(OUT).exists()
    return complaint


def saved(name: str, **arrays: Any) -> str:
    np.savez(name, **arrays)
    return name


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


# The data


def test_missing_data_is_named(net: Path) -> None:
    assert "absent.npz" in refused(net, data="absent.npz")


def test_an_array_of_another_name_is_named(net: Path) -> None:
    complaint = refused(net, data=saved("d.npz", image=images(4)))
    assert "'x'" in complaint or "x" in complaint.split("got")[0]
    assert "image" in complaint
    assert "d.npz" in complaint


def test_an_array_of_another_dtype_is_refused(net: Path) -> None:
    complaint = refused(net, data=saved("d.npz", x=images(4).astype(np.complex64)))
    assert "Expected float32, got complex64 - at d.npz" in complaint


def test_an_array_of_another_shape_is_refused(net: Path) -> None:
    complaint = refused(net, data=saved("d.npz", x=images(4)[..., :7]))
    assert "7" in complaint
    assert "d.npz" in complaint


def test_fewer_samples_than_asked_are_refused(net: Path, data: Path) -> None:
    complaint = refused(net, data=data, calibration_samples=500)
    assert "500" in complaint
    assert "48" in complaint


def test_nan_in_the_data_is_refused_with_its_place(net: Path) -> None:
    samples = images(4)
    samples[2, 0, 0, 0] = np.nan
    complaint = refused(net, data=saved("d.npz", x=samples))
    assert "got NaN" in complaint
    assert "d.npz" in complaint
    assert "2" in complaint


def test_labels_out_of_range_are_refused(net: Path) -> None:
    complaint = refused(net, data=saved("d.npz", x=images(8), labels=np.full(8, 10)))
    assert "10" in complaint
    assert "labels" in complaint


def test_fewer_labels_than_samples_are_refused(net: Path) -> None:
    complaint = refused(net, data=saved("d.npz", x=images(8), labels=np.zeros(3, np.int64)))
    assert "3" in complaint
    assert "labels" in complaint


def test_calibration_without_data_is_refused(net: Path, data: Path) -> None:
    assert "--data" in refused(net, calibration=data)


# The output


def test_an_output_that_exists_is_left_alone(net: Path, data: Path) -> None:
    Path(OUT).mkdir()
    kept = Path(OUT) / "kept"
    kept.write_text("mine")
    complaint = hasten("optimize", net, "--data", data, "--out", OUT).complaint
    assert "--force" in complaint
    assert [kept] == list(Path(OUT).iterdir())


@pytest.mark.parametrize("out", ["/proc/out.hasten", "/proc/folder/out.hasten"])
def test_an_output_that_cannot_be_written_is_refused(net: Path, out: str) -> None:
    """Nobody makes files or folders in /proc, root neither."""
    complaint = hasten("optimize", net, "--out", out).complaint
    assert complaint.startswith("Expected a folder that can be written")
    assert f"- at {Path(out).parent}" in complaint


def test_an_output_below_a_file_is_refused(net: Path) -> None:
    Path("file").write_text("")
    assert "file" in hasten("optimize", net, "--out", "file/out.hasten").complaint


# Flags


@pytest.mark.parametrize(
    ("flag", "given"),
    [
        ("time", "soon"),
        ("time", "0s"),
        ("time", "-5s"),
        ("threads", "0"),
        ("threads", "4096"),
        ("threads", "many"),
        ("max-drop", "-0.1"),
        ("max-drop", "nan"),
        ("max-drop", "little"),
        ("latency-ms", "0"),
        ("size-mb", "-1"),
        ("memory-mb", "nan"),
        ("metric", "top9"),
        ("metric", "no_such_module:judge"),
        ("runtime", "abacus"),
        ("target", "glory"),
        ("seed", "x"),
        ("calibration-samples", "0"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_named(flag: str, given: str, net: Path, data: Path) -> None:
    complaint = refused(net, f"--{flag}={given}", data=data)
    assert given in complaint or flag in complaint
    assert f"--{flag}" in complaint


@pytest.mark.parametrize("given", ["size=12", "mean=x", "colour=mauve", "zoom=3", "nonsense"])
def test_preprocessing_that_cannot_be_read_is_named(given: str, net: Path, data: Path) -> None:
    assert given.rsplit("=", maxsplit=1)[-1] in refused(net, data=data, preprocess=given)


@pytest.mark.parametrize("given", ["x", "x=float32", "x=float33[1,4]", "x=float32[1,-4]"])
def test_an_input_that_cannot_be_read_is_named(given: str, net: Path) -> None:
    assert "--input" in refused(net, input=given)


def test_no_output_is_asked_for_by_name(net: Path) -> None:
    assert "--out" in hasten("optimize", net).complaint


def test_an_unknown_flag_is_named(net: Path) -> None:
    assert "--quick" in refused(net, "--quick")


def test_an_unknown_verb_is_named() -> None:
    assert "accelerate" in hasten("accelerate").complaint


@pytest.mark.parametrize("rounds", ["0", "-3"])
def test_less_than_one_round_is_refused(rounds: str, net: Path) -> None:
    assert "--rounds" in hasten("bench", net, "--rounds", rounds).complaint


@pytest.mark.parametrize("verb", [("bench",), ("compare", "net.onnx")])
def test_an_unknown_runtime_after_the_at_is_named(verb: tuple[str, ...], net: Path) -> None:
    Path("net.onnx").write_bytes(net.read_bytes())
    complaint = hasten(*verb, "net.onnx@abacus").complaint
    assert "'abacus'" in complaint
    assert "onnxruntime" in complaint


def test_a_runtime_that_does_not_take_the_model_says_why(net: Path) -> None:
    complaint = hasten("bench", f"{net}@pytorch").complaint
    assert "runs models that come from PyTorch" in complaint


def test_a_damaged_bundle_is_refused() -> None:
    Path("b.hasten").mkdir()
    (Path("b.hasten") / "bundle.json").write_text("{}")
    assert "b.hasten" in hasten("bench", "b.hasten").complaint


# What is not installed


def without(package: str, *arguments: object, folder: Path) -> Done:
    """Run a verb in a process that cannot import a package."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules['{package}'] = None\n")
    return finish(start(*arguments, folder=folder, environment={"PYTHONPATH": str(folder)}))


def test_a_runtime_that_is_not_installed_comes_with_its_command(
    net: Path, data: Path, place: Path
) -> None:
    done = without(
        "openvino",
        *("optimize", net, "--data", data, "--out", OUT, "--runtime", "openvino"),
        folder=place,
    )
    assert "pip install 'hasten[openvino]'" in done.complaint
    assert not (place / OUT).exists()


def test_images_without_their_extra_come_with_its_command(net: Path, place: Path) -> None:
    from PIL import Image

    for label in ("a", "b"):
        (place / "images" / label).mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE)).save(place / "images" / label / "0.png")
    done = without(
        "PIL",
        *("optimize", net, "--data", "images", "--out", OUT),
        *("--preprocess", f"size={SIDE}x{SIDE}"),
        folder=place,
    )
    assert "pip install 'hasten[images]'" in done.complaint


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


# Interrupts and pipes


def test_an_interrupt_before_anything_was_measured_leaves_nothing(place: Path) -> None:
    net = null_net(place / "null.onnx", fail="hang_compile")
    process = start(
        *("optimize", net, "--runtime", "null", "--out", OUT, "--time", "60s"), folder=place
    )
    wait_for_worker(process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.status == 130
    assert done.err == ("hasten: interrupted before anything was measured; nothing was written\n")
    assert not (place / OUT).exists()


def wait_for_worker(process: subprocess.Popen[str]) -> None:
    """Wait until it has started a process of its own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text().strip():
        assert process.poll() is None


@pytest.mark.parametrize("arguments", [["--help"], ["bench", "--help"], ["--version"]])
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", "from hasten.cli.main import main; main()", *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1


def test_the_demo_may_be_given_more_time() -> None:
    assert "--time" in hasten("demo", "--time", "soon").complaint


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
