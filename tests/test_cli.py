"""What the command line says of input that cannot be used: one line, status 2, nothing written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import OUT, hasten, refused
from nets import images

pytestmark = pytest.mark.usefixtures("place")


def saved(name: str, **arrays: Any) -> str:
    np.savez(name, **arrays)
    return name


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
        ("metric", "top-9"),
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


def test_the_demo_may_be_given_more_time() -> None:
    assert "--time" in hasten("demo", "--time", "soon").complaint
