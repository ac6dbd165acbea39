"""Where operators run: known of every session, carried to bundle.json, report and terminal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from command_line import Done, hasten, with_status
from hasten.bundle import Bundle
from hasten.compress import Context, FoldInput, StaticInt8, apply_step
from hasten.data import Preprocessing, Samples
from hasten.errors import OptionError
from hasten.graph import model_from_proto, read_tflite
from hasten.runtimes import (
    Execution,
    Lowered,
    PlacedOperator,
    Placement,
    Placing,
    get_runtime,
)
from hasten.tune.candidate import Candidate, Contestant
from hasten.worker.process import Worker
from nets import SIDE, conv_net, images
from partial_nets import FIRST, LAST, LEFT, partial_net, partial_proto
from tflite_models import add_model
from workers import LIMIT_S, lowered, saved_samples

XNNPACK, KERNELS = "XNNPACK", "builtin kernels"


def placement_of(
    found: Lowered, execution: Execution | None = None, batch: int = 1, kind: type = np.float32
) -> Placement:
    session = get_runtime("litert").open(found, execution or Execution())
    assert isinstance(session, Placing)
    shapes = {spec.name: [dim or batch for dim in spec.shape] for spec in found.signature.inputs}
    session.run({name: np.ones(shape, kind) for name, shape in shapes.items()})
    placement = session.placement()
    session.close()
    return placement


def executors(placement: Placement) -> dict[str, str]:
    return {operator.node: operator.executor for operator in placement.operators}


def test_every_operator_is_placed_under_its_nodes_name(tmp_path: Path) -> None:
    found = placement_of(lowered("litert", partial_net(), tmp_path))
    assert executors(found) == {FIRST: XNNPACK, LEFT: KERNELS, LAST: XNNPACK}


def test_a_node_that_no_delegate_takes_makes_three_parts(tmp_path: Path) -> None:
    found = placement_of(lowered("litert", partial_net(), tmp_path))
    assert found.partitions == 3
    assert [share.partitions for share in found.shares] == [2, 1]


@pytest.mark.parametrize("batch", [1, 5])
def test_crossing_bytes_are_those_of_the_tensors_between_parts(batch: int, tmp_path: Path) -> None:
    found = placement_of(lowered("litert", partial_net(), tmp_path), batch=batch)
    assert found.crossing_bytes == batch * (8 + 8) * 4  # into the LogSoftmax, and out of it


def test_a_model_that_one_delegate_takes_is_one_part(tmp_path: Path) -> None:
    found = placement_of(lowered("litert", conv_net(), tmp_path))
    assert (found.partitions, found.crossing_bytes, found.fallback) == (1, 0, "")
    assert {operator.executor for operator in found.operators} == {XNNPACK}


def test_pixels_do_not_leave_the_delegate_to_get_a_sign(tmp_path: Path) -> None:
    declared = Preprocessing((SIDE, SIDE), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
    context = Context(tmp_path, Samples({"x": images(8)}), {"x": declared})
    net = model_from_proto(conv_net(), "net")
    for step in (FoldInput(), StaticInt8()):
        net = apply_step(net, step, context)
    assert net.signature.inputs[0].dtype == "uint8"
    found = placement_of(lowered("litert", net, tmp_path), kind=np.uint8)
    assert {operator.executor for operator in found.operators} == {XNNPACK}


def test_without_delegate_the_kernels_are_what_was_wanted(tmp_path: Path) -> None:
    found = placement_of(lowered("litert", partial_net(), tmp_path), Execution(delegate="none"))
    assert set(executors(found).values()) == {KERNELS}
    assert (found.partitions, found.crossing_bytes, found.fallbacks) == (1, 0, ())


def test_instances_that_share_weights_are_placed_too(tmp_path: Path) -> None:
    found = placement_of(lowered("litert", partial_net(), tmp_path), Execution(instances=2))
    assert executors(found) == {FIRST: XNNPACK, LEFT: KERNELS, LAST: XNNPACK}


def test_a_file_without_node_names_is_placed_by_what_operators_write(tmp_path: Path) -> None:
    (tmp_path / "add.tflite").write_bytes(add_model())
    net = read_tflite(tmp_path / "add.tflite")
    found = placement_of(get_runtime("litert").lower(net, tmp_path))
    assert executors(found) == {"output sum": XNNPACK}


def test_fallbacks_are_said_in_one_sentence() -> None:
    operators = tuple(
        PlacedOperator("FLOOR", f"n{at}", KERNELS if at else XNNPACK, at) for at in range(20)
    )
    sentence = Placement(XNNPACK, 20, 0, operators).fallback
    assert sentence.startswith("19 of 20 operators are not run by XNNPACK: FLOOR (node n1), ")
    assert sentence.endswith("FLOOR (node n12) and 7 more")


def test_a_worker_says_where_operators_run(tmp_path: Path) -> None:
    samples = saved_samples(tmp_path / "samples")
    found = lowered("litert", partial_net(), tmp_path)
    with Worker(tmp_path) as worker:
        opened = worker.open("litert", found, Execution(), samples, LIMIT_S)
    assert opened.placement is not None
    assert executors(opened.placement)[LEFT] == KERNELS


def test_a_runtime_that_does_not_tell_leaves_it_unknown(tmp_path: Path) -> None:
    samples = saved_samples(tmp_path / "samples")
    found = lowered("onnxruntime", partial_net(), tmp_path)
    with Worker(tmp_path) as worker:
        assert worker.open("onnxruntime", found, Execution(), samples, LIMIT_S).placement is None


# On the command line


@pytest.fixture
def net(tmp_path: Path) -> Path:
    onnx.save(partial_proto(), tmp_path / "partial.onnx")
    return tmp_path / "partial.onnx"


def test_bench_prints_the_table_and_names_what_fell_back(net: Path) -> None:
    done = hasten("bench", f"{net}@litert", "--rounds", 1)
    assert "Where operators run" in done.out
    assert "1 of 3 operators are not run by XNNPACK: LOG_SOFTMAX (node logits)" in " ".join(
        done.out.split()
    )


def test_bench_gives_programs_the_placement_and_the_devices(net: Path) -> None:
    document = hasten("bench", f"{net}@litert", "--rounds", 1, "--json").document
    assert document["placement"]["operators"][1] == {
        "kind": "LOG_SOFTMAX",
        "node": LEFT,
        "executor": KERNELS,
        "partition": 1,
    }
    assert {one["name"] for one in document["devices"]} >= {"cpu", "gpu", "npu:qualcomm"}


def test_bench_fails_on_a_fallback_when_asked_to(net: Path) -> None:
    complaint = hasten("bench", f"{net}@litert", "--rounds", 1, "--fail-on-fallback").complaint
    assert "LOG_SOFTMAX (node logits)" in complaint
    assert complaint.strip().endswith("at --fail-on-fallback")


def test_a_model_that_runs_as_a_whole_passes_the_same_question(tmp_path: Path) -> None:
    onnx.save(conv_net(), tmp_path / "net.onnx")
    done = hasten("bench", f"{tmp_path / 'net.onnx'}@litert", "--rounds", 1, "--fail-on-fallback")
    assert done.status == 0, done.err


def raced(net: Path, out: Path, *flags: object) -> Done:
    return hasten(
        *(
            "optimize",
            net,
            "--runtime",
            "litert",
            "--threads",
            1,
            "--time",
            "10s",
            "--out",
            out,
            "--json",
        ),
        *flags,
    )


def test_in_a_race_a_fallback_is_a_failure_that_names_the_nodes(net: Path, tmp_path: Path) -> None:
    done = raced(net, tmp_path / "b", "--fail-on-fallback")
    assert done.status == 0, done.err
    failed = with_status(done.document, "failed")
    assert any("LOG_SOFTMAX (node logits)" in one["reason"] for one in failed)
    chosen = done.document["evidence"]["placement"]
    assert chosen is None or chosen["wanted"] != XNNPACK


def test_a_chosen_plan_that_falls_back_is_an_error_that_names_the_nodes(tmp_path: Path) -> None:
    placement = placement_of(lowered("litert", partial_net(), tmp_path))
    chosen = Contestant(Candidate((), "litert", Execution()), placement=placement)
    with pytest.raises(OptionError, match=r"LOG_SOFTMAX \(node logits\) - at --fail-on-fallback"):
        chosen.require_whole()


def test_the_bundle_keeps_the_placement_of_its_plan(tmp_path: Path) -> None:
    path = lowered("litert", conv_net(), tmp_path).path
    done = hasten(
        *(
            "optimize",
            path,
            "--runtime",
            "litert",
            "--time",
            "7s",
            "--threads",
            1,
            "--out",
            tmp_path / "b",
        ),
        "--json",
    )
    assert done.status == 0, done.err
    placement = Bundle.open(tmp_path / "b").manifest.evidence.placement
    assert placement is not None
    assert len(placement.operators) == 6
    assert "Where operators run" in (tmp_path / "b" / "report.html").read_text()
