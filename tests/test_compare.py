"""``hasten bench`` and ``hasten compare``: the race's measuring without the race."""

from __future__ import annotations

from pathlib import Path

import pytest

from command_line import Done, hasten
from nets import null_net, saved_net

pytestmark = pytest.mark.quiet

FEW = ("--rounds", "12", "--threads", "1", "--json")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def slower(folder: Path) -> Done:
    """A model against one that takes twice as long; blocks of five rounds outlive a hiccup."""
    a = null_net(folder / "a.onnx", cost_ns=2_000_000)
    b = null_net(folder / "b.onnx", cost_ns=4_000_000)
    return hasten("compare", f"{a}@null", f"{b}@null", "--rounds", "30", "--json")


@pytest.fixture(scope="module")
def benched(folder: Path) -> Done:
    return hasten("bench", f"{saved_net(folder)}@onnxruntime", *FEW)


def test_a_planted_slowdown_is_found(slower: Done) -> None:
    assert slower.status == 0, slower.err
    assert slower.document["verdict"] == "slower"
    assert slower.document["speedup"]["median"] == pytest.approx(1 / 2, rel=0.1)


def test_the_comparison_has_the_keys_that_scripts_lean_on(slower: Done) -> None:
    assert slower.document["speedup"].keys() == {"median", "low", "high"}
    assert slower.document["control"].keys() == {"median", "low", "high"}
    assert {"verdict", "a", "b"} <= slower.document.keys()


def test_a_model_does_not_differ_from_itself(folder: Path) -> None:
    same = null_net(folder / "same.onnx", cost_ns=2_000_000)
    done = hasten("compare", f"{same}@null", f"{same}@null", *FEW)
    assert done.document["verdict"] == "no measurable difference"


def test_bench_prints_latency_and_raw_times(benched: Done) -> None:
    assert benched.status == 0, benched.err
    assert benched.document["latency_ms"].keys() == {"p50", "p90", "p99"}
    rounds = sum(len(block) for block in benched.document["measurement"]["runs_ns"])
    assert rounds == 12


def test_the_runtime_after_the_at_is_the_one_that_runs(benched: Done) -> None:
    assert benched.document["label"] == "net.onnx onnxruntime 1t"


def test_a_bundle_is_timed_as_its_plan_says(folder: Path) -> None:
    net, bundle = null_net(folder / "null.onnx", cost_ns=500_000), folder / "b.hasten"
    made = hasten(
        *("optimize", net, "--runtime", "null", "--threads", "1", "--time", "10s"),
        *("--out", bundle, "--json"),
    )
    assert made.status == 0, made.err
    done = hasten("bench", bundle, "--rounds", "6", "--json")
    assert done.status == 0, done.err
    assert done.document["label"] == "b.hasten null 1t"
    complaint = hasten("bench", f"{bundle}@openvino").complaint
    assert "Expected one of null, got openvino" in complaint
