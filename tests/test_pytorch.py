"""Modules of PyTorch as they are, and compiled: outputs are arrays that nothing changes later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hasten.errors import HastenError, RuntimeFailureError
from hasten.graph import AppliedStep, Model, Signature, TensorSpec, TorchSource
from hasten.runtimes import Execution, Lowered, Session, get_runtime
from onnx_models import run
from runtime_subjects import Subject, assert_equal
from torch_nets import exported_conv_net


@pytest.fixture(scope="session")
def from_torch(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return exported_conv_net(tmp_path_factory.mktemp("net"))


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


@pytest.mark.parametrize("name", ["pytorch", "torch-compile"])
def test_a_broken_pt2_is_an_error_of_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"no model at all\n" * 40)
    lowered = Lowered(str(path), "pt2", Signature((), ()), torch_source(str(path), ("y",)))
    with pytest.raises(HastenError) as caught:
        get_runtime(name).open(lowered, Execution())
    assert "\n" not in str(caught.value)


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
