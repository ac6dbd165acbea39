"""The same tests for every runtime, and what each takes or refuses besides."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from hasten.errors import OptionError, RuntimeFailureError
from hasten.graph import Model, Signature, model_from_proto, read_tflite
from hasten.runtimes import RUNTIMES, Execution, Lowered, get_runtime
from hasten.runtimes.runtime import Format
from onnx_models import branching, conv_bn, model, run, value, weight
from runtime_subjects import Subject, assert_equal
from tflite_models import add_model
from torch_nets import exported_conv_net

#: torch-compile builds C++ for tens of seconds, so it has one test of its own in test_pytorch.py.
CONFORMING = [name for name in RUNTIMES if name != "torch-compile"]


@pytest.fixture(scope="session")
def from_torch(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return exported_conv_net(tmp_path_factory.mktemp("net"))


@pytest.fixture(scope="session")
def adder(tmp_path_factory: pytest.TempPathFactory) -> Model:
    path = tmp_path_factory.mktemp("tflite") / "add.tflite"
    path.write_bytes(add_model([1, 4], signature=[-1, 4]))
    return read_tflite(path)


@pytest.fixture(params=CONFORMING)
def subject(request: pytest.FixtureRequest) -> Subject:
    name = request.param
    if name == "litert":
        adder = request.getfixturevalue("adder")
        return Subject(name, adder, lambda feed: {"sum": feed["left"] + feed["right"]})
    if name == "pytorch":
        net = request.getfixturevalue("from_torch")
        return Subject(name, net, lambda feed: run(net, feed))
    net = model_from_proto(conv_bn(), "net")
    if name == "null":
        return Subject(name, net, lambda feed: {"y": np.zeros((len(feed["x"]), 4, 6, 6))})
    return Subject(name, net, lambda feed: run(net, feed))


@pytest.mark.parametrize("name", RUNTIMES)
def test_probe_finds_the_runtime_and_its_version(name: str) -> None:
    probe = get_runtime(name).probe()
    assert probe.available
    assert probe.version
    assert probe.reason == ""


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_runtime_bears_the_name_it_is_listed_under(name: str) -> None:
    assert get_runtime(name).name == name


def test_an_unknown_runtime_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(OptionError, match=r"onnxruntime.*got tvm - at --runtime"):
        get_runtime("tvm")


def test_a_model_it_takes_has_no_reasons_against_it(subject: Subject) -> None:
    assert get_runtime(subject.runtime).supports(subject.model) == []


@pytest.mark.parametrize("name", ["onnxruntime", "pytorch", "torch-compile", "null"])
def test_a_tflite_model_is_refused_with_a_reason(name: str, adder: Model) -> None:
    alone = Model("add", add_model(), adder.signature)
    (reason,) = get_runtime(name).supports(alone)
    assert "\n" not in reason


def test_litert_refuses_branches_and_names_them() -> None:
    net = model_from_proto(branching(), "net")
    assert get_runtime("litert").supports(net) == ["litert has no equal of If (node choose)"]


def test_lowering_again_gives_the_same_file(subject: Subject, tmp_path: Path) -> None:
    runtime = get_runtime(subject.runtime)
    assert runtime.lower(subject.model, tmp_path) == runtime.lower(subject.model, tmp_path)


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs_are_those_of_the_reference(subject: Subject, batch: int, tmp_path: Path) -> None:
    feed = subject.feed(batch)
    assert_equal(subject.open(tmp_path).run(feed), subject.expected(feed))


def test_one_session_takes_batches_of_changing_size(subject: Subject, tmp_path: Path) -> None:
    session = subject.open(tmp_path)
    for batch in (1, 3, 2, 1):
        feed = subject.feed(batch)
        assert_equal(session.run(feed), subject.expected(feed))


@pytest.mark.parametrize("threads", [1, 2])
def test_thread_counts_do_not_change_the_outputs(
    subject: Subject, threads: int, tmp_path: Path
) -> None:
    feed = subject.feed(3)
    session = subject.open(tmp_path, threads)
    assert_equal(session.run(feed), subject.expected(feed))


def test_outputs_have_the_names_dtypes_and_order_of_the_signature(
    subject: Subject, tmp_path: Path
) -> None:
    outputs = subject.open(tmp_path).run(subject.feed(2))
    specs = subject.model.signature.outputs
    assert [(name, array.dtype.name) for name, array in outputs.items()] == [
        (spec.name, spec.dtype) for spec in specs
    ]


def test_a_second_run_leaves_the_first_outputs_alone(subject: Subject, tmp_path: Path) -> None:
    session = subject.open(tmp_path)
    first = session.run(subject.feed(3, seed=1))
    kept = {name: array.copy() for name, array in first.items()}
    session.run(subject.feed(3, seed=2))
    assert_equal(first, kept, tolerance=0)


def test_outputs_outlive_the_session(subject: Subject, tmp_path: Path) -> None:
    feed = subject.feed(2)
    session = subject.open(tmp_path)
    outputs = session.run(feed)
    session.close()
    del session
    assert_equal(outputs, subject.expected(feed))


def test_outputs_are_contiguous_and_share_nothing_with_the_inputs(
    subject: Subject, tmp_path: Path
) -> None:
    feed = subject.feed(2)
    for output in subject.open(tmp_path).run(feed).values():
        assert output.flags.c_contiguous
        assert not any(np.shares_memory(output, array) for array in feed.values())


def test_read_only_inputs_are_taken_and_no_input_is_changed(
    subject: Subject, tmp_path: Path
) -> None:
    session = subject.open(tmp_path)
    feed = subject.feed(2)
    kept = {name: array.copy() for name, array in feed.items()}
    session.run(feed)
    for array in feed.values():
        array.flags.writeable = False
    assert_equal(session.run(feed), subject.expected(kept))
    assert_equal(feed, kept, tolerance=0)


def test_two_sessions_run_in_two_threads_at_once(subject: Subject, tmp_path: Path) -> None:
    def work(seed: int) -> None:
        session = subject.open(tmp_path)
        for at in range(20):
            feed = subject.feed(1 + at % 3, seed=seed + at)
            assert_equal(session.run(feed), subject.expected(feed))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, [0, 100]))


@pytest.mark.parametrize(
    ("name", "kind"), [("onnxruntime", "onnx"), ("openvino", "onnx"), ("litert", "tflite")]
)
def test_a_broken_file_is_a_failure_of_one_line(name: str, kind: Format, tmp_path: Path) -> None:
    path = tmp_path / f"broken.{kind}"
    path.write_bytes(b"no model at all\n" * 40)
    lowered = Lowered(str(path), kind, Signature((), ()))
    with pytest.raises(RuntimeFailureError, match=f"^{name} could not compile: .+$") as caught:
        get_runtime(name).open(lowered, Execution())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "litert", "pytorch"])
def test_a_feed_of_another_shape_is_a_failure_of_one_line(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    fixtures = {"litert": "adder", "pytorch": "from_torch"}
    net = (
        request.getfixturevalue(fixtures[name])
        if name in fixtures
        else model_from_proto(conv_bn(), "net")
    )
    runtime = get_runtime(name)
    session = runtime.open(runtime.lower(net, tmp_path), Execution())
    bad = {spec.name: np.zeros((2, 7), np.float32) for spec in net.signature.inputs}
    with pytest.raises(RuntimeFailureError, match=f"^{name} could not run: ") as caught:
        session.run(bad)
    assert "\n" not in str(caught.value)


def test_litert_runs_on_after_a_feed_it_did_not_take(adder: Model, tmp_path: Path) -> None:
    runtime = get_runtime("litert")
    session = runtime.open(runtime.lower(adder, tmp_path), Execution())
    row, long_row = np.ones((3, 4), np.float32), np.ones((3, 7), np.float32)
    with pytest.raises(RuntimeFailureError):
        session.run({"left": row, "right": long_row})
    assert_equal(session.run({"left": row, "right": row}), {"sum": row + row})


def test_openvino_runs_tflite_too(adder: Model, tmp_path: Path) -> None:
    runtime = get_runtime("openvino")
    assert runtime.supports(adder) == []
    session = runtime.open(runtime.lower(adder, tmp_path), Execution())
    row = np.ones((3, 4), np.float32)
    assert_equal(session.run({"left": row, "right": row}), {"sum": row + row})


def test_the_bf16_hint_of_openvino_gives_close_outputs(tmp_path: Path) -> None:
    runtime = get_runtime("openvino")
    if "bf16" not in runtime.probe().hints:
        pytest.skip("this processor has no bf16")
    net = model_from_proto(conv_bn(), "net")
    feed = Subject("openvino", net, lambda feed: run(net, feed)).feed(3)
    session = runtime.open(runtime.lower(net, tmp_path), Execution(hint="bf16"))
    assert_equal(session.run(feed), run(net, feed), tolerance=0.1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_an_int8_model_runs_close_to_its_float_twin(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    feed = {"x": random.uniform(-1, 1, size=(3, 4)).astype(np.float32)}
    runtime = get_runtime(name)
    session = runtime.open(runtime.lower(quantized_linear(), tmp_path), Execution())
    weights = numpy_helper.to_array(weight("w", 4, 3))
    assert_equal(session.run(feed), {"y": feed["x"] @ weights}, tolerance=0.08)


def quantized_linear() -> Model:
    """x[n,4] times w[4,3] as QDQ: activations U8 on [-1, 1], weights S8 per tensor."""
    weights = numpy_helper.to_array(weight("w", 4, 3))
    scale = np.float32(np.abs(weights).max() / 127)
    constants = {
        "w8": np.round(weights / scale).astype(np.int8),
        "w_scale": scale,
        "w_zero": np.int8(0),
        "x_scale": np.float32(2 / 255),
        "x_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w8", "w_scale", "w_zero"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["y"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 3])], tensors)
    return model_from_proto(proto, "int8")


def test_a_missing_file_of_a_lowered_model_is_no_size(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"12345")
    signature = Signature((), ())
    assert Lowered(str(tmp_path / "net.onnx"), "onnx", signature).size_bytes == 5
    assert Lowered("", "pt2", signature).size_bytes == 0


def test_an_execution_is_written_in_few_words() -> None:
    assert str(Execution()) == "1t"
    assert str(Execution(threads=2, instances=3, batch=4, hint="bf16")) == "3x 2t b4 bf16"


def test_opening_a_session_loads_only_its_own_vendor_library() -> None:
    code = (
        "import sys; from hasten.runtimes import RUNTIMES, get_runtime\n"
        "for name in RUNTIMES: get_runtime(name)\n"
        "print({'onnxruntime', 'openvino', 'torch', 'ai_edge_litert'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
