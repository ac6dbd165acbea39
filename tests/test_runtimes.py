from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

from hasten.errors import HastenError, OptionError, RuntimeFailureError
from hasten.graph import (
    AppliedStep,
    Model,
    Signature,
    TensorSpec,
    TorchSource,
    load,
    model_from_proto,
    read_tflite,
)
from hasten.runtimes import RUNTIMES, Arrays, Execution, Lowered, Session, get_runtime
from hasten.runtimes.runtime import Format, Hint
from onnx_models import branching, conv_bn, model, run, value, weight
from tflite_models import add_model

#: torch-compile builds C++ for tens of seconds, so it has one test of its own.
CONFORMING = [name for name in RUNTIMES if name != "torch-compile"]
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Subject:
    """A runtime, a model that it takes, and what must come out of it."""

    runtime: str
    model: Model
    expected: Callable[[Arrays], Arrays]

    def feed(self, batch: int, seed: int = 0) -> Arrays:
        random = np.random.default_rng(seed)
        shapes = {
            spec.name: (batch, *(dim or 1 for dim in spec.shape[1:]))
            for spec in self.model.signature.inputs
        }
        return {
            name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()
        }

    def open(self, folder: Path, threads: int = 1) -> Session:
        runtime = get_runtime(self.runtime)
        # What OpenVINO does by default is bf16 where the processor has it.
        hint: Hint = "f32" if "f32" in runtime.probe().hints else "default"
        lowered = runtime.lower(self.model, folder)
        return runtime.open(lowered, Execution(threads=threads, hint=hint))


class ConvNet(nn.Module):
    """A convolution, its batch norm and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y


@pytest.fixture(scope="session")
def from_torch(tmp_path_factory: pytest.TempPathFactory) -> Model:
    torch.manual_seed(0)
    return load(ConvNet(), example=torch.zeros(2, 3, 8, 8), scratch=tmp_path_factory.mktemp("net"))


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


def assert_equal(found: Arrays, expected: Arrays, tolerance: float = TOLERANCE) -> None:
    assert list(found) == list(expected)
    for name, array in found.items():
        np.testing.assert_allclose(array, expected[name], rtol=tolerance, atol=tolerance)


def opened_module(folder: Path, name: str, code: str, outputs: int = 1) -> Session:
    """A PyTorch session of a class ``Net`` written to a module of its own."""
    (folder / f"{name}.py").write_text(f"import torch\nclass Net(torch.nn.Module):\n{code}\n")
    names = tuple(f"y{at}" for at in range(outputs))
    spec = TensorSpec("x", "float32", (None, 4))
    signature = Signature((spec,), tuple(TensorSpec(one, "float32", (None, 4)) for one in names))
    source = torch_source(f"{name}:Net", names)
    return get_runtime("pytorch").open(Lowered("", "pt2", signature, source), Execution())


def torch_source(location: str, outputs: tuple[str, ...]) -> TorchSource:
    return TorchSource(location, ("x",), outputs)


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


@pytest.mark.parametrize("name", ["pytorch", "torch-compile"])
def test_a_broken_pt2_is_an_error_of_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"no model at all\n" * 40)
    lowered = Lowered(str(path), "pt2", Signature((), ()), torch_source(str(path), ("y",)))
    with pytest.raises(HastenError) as caught:
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


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # importing Inductor calls torch.jit
def test_torch_compile_gives_the_outputs_of_the_module(from_torch: Model, tmp_path: Path) -> None:
    runtime = get_runtime("torch-compile")
    assert runtime.supports(from_torch) == []
    session = runtime.open(runtime.lower(from_torch, tmp_path), Execution(threads=2))
    subject = Subject("torch-compile", from_torch, lambda feed: run(from_torch, feed))
    feeds = [subject.feed(3, seed=seed) for seed in range(2)]
    for feed, outputs in [(feed, session.run(feed)) for feed in feeds]:
        assert_equal(outputs, subject.expected(feed))


def test_pytorch_runs_no_graph_that_steps_have_changed(from_torch: Model) -> None:
    changed = from_torch.evolve(from_torch.graph, from_torch.signature, AppliedStep("bf16"))
    assert get_runtime("pytorch").supports(changed) == [
        "runs the original module, not a graph that steps have changed"
    ]


def test_a_module_that_works_in_place_leaves_the_callers_arrays_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = opened_module(tmp_path, "in_place", "    def forward(self, x): return x.mul_(2)")
    x = np.ones((2, 4), np.float32)
    for _ in range(3):
        np.testing.assert_array_equal(session.run({"x": x})["y0"], 2 * np.ones((2, 4)))
    np.testing.assert_array_equal(x, np.ones((2, 4)))


def test_an_output_that_is_the_input_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session = opened_module(tmp_path, "identity", "    def forward(self, x): return x")
    x = np.ones((2, 4), np.float32)
    for _ in range(2):
        assert not np.shares_memory(session.run({"x": x})["y0"], x)


def test_an_output_that_is_a_weight_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = """
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(2, 4))
    def forward(self, x):
        self.total += x
        return self.total
    """
    session = opened_module(tmp_path, "running_sum", code)
    x = np.ones((2, 4), np.float32)
    first = session.run({"x": x})["y0"]
    session.run({"x": x})
    np.testing.assert_array_equal(first, x)


def test_nested_outputs_are_flattened_in_order_and_made_contiguous(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = "    def forward(self, x): return {'a': x + 1, 'b': [(x + 2).t(), (x + 3,)]}"
    session = opened_module(tmp_path, "nested", code, outputs=3)
    outputs = session.run({"x": np.zeros((2, 4), np.float32)})
    assert [array.flat[0] for array in outputs.values()] == [1, 2, 3]
    assert all(array.flags.c_contiguous for array in outputs.values())


def test_a_callable_that_returns_no_module_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seven.py").write_text("def make(): return 7\n")
    lowered = Lowered("", "pt2", Signature((), ()), torch_source("seven:make", ("y",)))
    with pytest.raises(RuntimeFailureError, match=r"seven:make returned no torch\.nn\.Module"):
        get_runtime("pytorch").open(lowered, Execution())


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
