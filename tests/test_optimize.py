"""The main job, end to end through the command line: real models, real runtimes, real files."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import Done, finish, hasten, start, with_status
from hasten import Bundle
from nets import SIDE, images, null_net, saved_data, saved_net
from tflite_models import add_model

#: One runtime keeps a race short where another says nothing more.
ORT = ("--runtime", "onnxruntime")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimize")


@pytest.fixture(scope="module")
def with_data(folder: Path) -> Done:
    """A network optimised with samples and labels."""
    return hasten(
        *("optimize", saved_net(folder), "--data", saved_data(folder), "--max-drop", "0.5"),
        *("--time", "20s", "--out", folder / "with.hasten", *ORT, "--runtime", "pytorch", "--json"),
    )


@pytest.fixture(scope="module")
def without_data(folder: Path) -> Done:
    """The same network, without any."""
    return hasten(
        *("optimize", saved_net(folder), "--time", "14s", *ORT, "--json"),
        *("--out", folder / "without.hasten"),
    )


def steps(candidate: dict[str, Any]) -> list[str]:
    return [step["step"] for step in candidate["steps"]]


# With data


def test_it_ends_well_with_one_json_document(with_data: Done) -> None:
    assert with_data.status == 0, with_data.err
    assert with_data.document["format_version"] == 1
    assert with_data.err == ""


def test_the_document_has_the_keys_that_scripts_lean_on(with_data: Done) -> None:
    found = with_data.document
    assert {"name", "signature", "artifact", "plan", "evidence", "environment"} <= found.keys()
    assert {"file", "sha256", "bytes", "format"} <= found["artifact"].keys()
    assert {"steps", "runtime", "execution", "serving"} <= found["plan"].keys()
    evidence = found["evidence"]
    assert {"speedup", "drop", "budget", "unmet", "candidates", "ledger"} <= evidence.keys()
    side = {"label", "latency_ms", "metric", "size_bytes", "peak_memory_bytes"}
    assert side <= evidence["reference"].keys()
    assert side <= evidence["chosen"].keys()
    assert evidence["speedup"].keys() == {"median", "low", "high"}
    assert evidence["chosen"]["latency_ms"].keys() == {"p50", "p90", "p99"}


def test_every_candidate_has_a_status_and_unless_it_won_a_reason(with_data: Done) -> None:
    found = with_data.document["evidence"]
    for one in found["candidates"]:
        assert one["status"] in {"won", "lost", "over_budget", "failed", "refused"}
        is_side = one["label"] in {found["reference"]["label"], found["chosen"]["label"]}
        assert one["reason"] or is_side, one
    assert len(with_status(with_data.document, "won")) == 1


def test_static_int8_was_built_and_measured(with_data: Done) -> None:
    measured = [
        one
        for one in with_data.document["evidence"]["candidates"]
        if "static_int8" in steps(one) and one["latency_ms"]
    ]
    assert measured
    assert all(one["size_bytes"] for one in measured)


def test_labels_decide_by_top1(with_data: Done) -> None:
    evidence = with_data.document["evidence"]
    assert evidence["budget"]["metric"] == "top1"
    assert evidence["reference"]["metric"] == 1.0


def test_a_runtime_that_reads_something_else_is_refused_once(with_data: Done) -> None:
    candidates = with_data.document["evidence"]["candidates"]
    (refused,) = [one for one in candidates if one["runtime"] == "pytorch"]
    assert refused["status"] == "refused"
    assert refused["reason"].startswith("runs models that come from PyTorch (and ")


def test_the_bundle_opens_and_runs(with_data: Done, folder: Path) -> None:
    bundle = Bundle.open(folder / "with.hasten")
    with bundle:
        outputs = bundle.run({"x": images(1)})
    assert outputs["y"].shape == (1, 10)


def test_the_bundle_holds_its_report_and_the_same_document(with_data: Done, folder: Path) -> None:
    bundle = folder / "with.hasten"
    assert (bundle / "config.pbtxt").is_file()
    assert with_data.document["evidence"]["verdict"] in (bundle / "report.html").read_text()
    assert (bundle / "bundle.json").read_text().strip() == with_data.out.strip()


# Without data


def test_without_data_static_int8_is_refused_with_the_reason(without_data: Done) -> None:
    refused = with_status(without_data.document, "refused")
    assert any("static int8 needs calibration samples" in one["reason"] for one in refused)


def test_without_data_weight_only_candidates_race(without_data: Done) -> None:
    candidates = without_data.document["evidence"]["candidates"]
    assert any(steps(one) == ["weight_int8"] and one["latency_ms"] for one in candidates)


def test_without_data_a_note_says_how_accuracy_was_judged(without_data: Done) -> None:
    evidence = without_data.document["evidence"]
    assert evidence["budget"]["metric"] == "fidelity"
    assert any("random samples" in note for note in evidence["notes"])


# Other sources


def test_a_tflite_file_runs_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "add.tflite").write_bytes(add_model())
    done = hasten(
        *("optimize", tmp_path / "add.tflite", "--out", tmp_path / "b", "--time", "12s"),
        *("--runtime", "litert", "--json"),
    )
    assert done.status == 0, done.err
    assert done.document["plan"]["runtime"] == "litert"
    assert done.document["plan"]["steps"] == []
    assert done.document["artifact"]["format"] == "tflite"


def test_preprocessed_images_lead_to_folded_inputs(tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        for at in range(8):
            pixels = random.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / label / f"{at}.png")
    done = hasten(
        *("optimize", saved_net(tmp_path), "--data", tmp_path / "images", "--out", tmp_path / "b"),
        *(
            "--preprocess",
            f"size={SIDE}x{SIDE},mean=0.5:0.5:0.5,std=0.5:0.5:0.5",
            "--time",
            "14s",
            *ORT,
            "--json",
        ),
    )
    assert done.status == 0, done.err
    candidates = done.document["evidence"]["candidates"]
    assert any(steps(one)[:1] == ["fold_input"] and one["latency_ms"] for one in candidates)


def test_a_pytorch_module_is_held_against_pytorch(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(
        "import torch\n"
        "def net():\n"
        "    torch.manual_seed(0)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(),"
        " torch.nn.Linear(16, 3))\n"
    )
    process = start(
        *("optimize", "tiny:net", "--input", "x=float32[batch,8]", "--out", "b.hasten"),
        *("--time", "60s", *ORT, "--json"),
        folder=tmp_path,
    )
    done = finish(process)
    assert done.status == 0, done.err
    assert done.document["evidence"]["reference"]["label"].startswith("as is, pytorch")


# Goals and budgets


def optimised_null(folder: Path, *flags: object, **behaviour: object) -> Done:
    """Optimise a null model, so that a race is short and its costs are known."""
    net = null_net(folder / "null.onnx", **behaviour)
    return hasten(
        *("optimize", net, "--runtime", "null", "--threads", "1", "--out", folder / "b.hasten"),
        *("--json", *flags),
    )


@pytest.fixture(scope="module")
def unmet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A model that nothing makes faster, with a goal out of reach; and its bundle."""
    folder = tmp_path_factory.mktemp("unmet")
    done = optimised_null(folder, "--latency-ms", "0.001", "--time", "12s", cost_ns=1_000_000)
    return done, folder / "b.hasten"


def test_where_nothing_is_faster_the_reference_stays(unmet: tuple[Done, Path]) -> None:
    found = unmet[0].document
    assert found["evidence"]["chosen"] == found["evidence"]["reference"]
    assert found["evidence"]["speedup"]["median"] == 1.0
    assert found["plan"]["steps"] == []


def test_a_goal_that_nothing_meets_is_named_and_the_best_is_written(
    unmet: tuple[Done, Path],
) -> None:
    done, bundle = unmet
    assert done.status == 1
    (goal,) = done.document["evidence"]["unmet"]
    assert goal.startswith("latency ")
    assert "at most 0.001 ms" in goal
    assert (bundle / "bundle.json").is_file()


def test_throughput_is_a_target(tmp_path: Path) -> None:
    done = optimised_null(tmp_path, "--target", "throughput", "--time", "8s", cost_ns=200_000)
    assert done.status == 0, done.err
    batches = {one["execution"]["batch"] for one in done.document["evidence"]["candidates"]}
    assert len(batches) > 1


# Time and interrupts


def test_the_time_is_kept_also_where_a_run_is_slow(tmp_path: Path) -> None:
    began = time.monotonic()
    done = optimised_null(tmp_path, "--time", "12s", cost_ns=60_000_000)
    assert done.status == 0, done.err
    assert time.monotonic() - began < 12 + 3


def test_an_interrupt_during_the_race_leaves_the_best_so_far(tmp_path: Path) -> None:
    net = null_net(tmp_path / "null.onnx", cost_ns=20_000_000)
    process = start(
        *("optimize", net, "--runtime", "null", "--threads", "1", "--out", "b.hasten"),
        *("--time", "120s", "--json"),
        folder=tmp_path,
    )
    wait_for_workers(process, 3)
    time.sleep(1.5)  # a round of these takes far less
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.status == 0, done.err
    assert (tmp_path / "b.hasten" / "report.html").is_file()
    assert any("interrupted" in note for note in done.document["evidence"]["notes"])


def wait_for_workers(process: subprocess.Popen[str], count: int) -> None:
    """Wait until so many of its workers are alive at once: then it is screening."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while len(children.read_text().split()) < count:
        assert process.poll() is None
        time.sleep(0.01)


# Again


def test_force_replaces_a_bundle_and_tables_say_where_the_report_is(
    unmet: tuple[Done, Path],
) -> None:
    _, bundle = unmet
    before = (bundle / "bundle.json").read_bytes()
    net = null_net(bundle.parent / "null.onnx", cost_ns=100_000)
    done = hasten(
        *("optimize", net, "--runtime", "null", "--threads", "1", "--out", bundle),
        *("--time", "10s", "--force"),
    )
    assert done.status == 0, done.err
    assert "report.html" in done.out.replace("\n", "")
    assert (bundle / "bundle.json").read_bytes() != before
    assert [path.name for path in bundle.parent.iterdir()].count("b.hasten") == 1
