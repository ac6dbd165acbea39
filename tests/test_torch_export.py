"""Modules of PyTorch, their callables and .pt2 files: exported with free batches, or refused."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as f

from hasten.errors import ModelError, OptionError
from hasten.graph import Model, load, open_exported_program, parameter_names, parse_input
from hasten.graph.torch_calls import named_tensors
from hasten.runtimes import Execution, get_runtime
from onnx_models import run
from torch_nets import exported_sequential

_NET_FILE = """
import torch
from torch import nn

def make():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Dropout(0.5))

def number():
    return 7

def broken():
    raise ValueError("no weights here\\nsecond line")
"""


class TwoInputs(nn.Module):
    """Adds a scaled second input, so that the order of the two matters."""

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + 2 * right


class Summed(nn.Module):
    """Adds any number of inputs; its output has twice as many rows as they have."""

    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return sum(parts[1:], parts[0]).reshape(-1, 2)


class FixedBatch(nn.Module):
    """Works for a batch of two only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 2, 2)


@pytest.fixture
def net_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"net_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(_NET_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return exported_sequential(tmp_path_factory.mktemp("scratch"))


def _message(source: str | nn.Module, scratch: Path, *inputs: str, example: object = None) -> str:
    with pytest.raises((ModelError, OptionError)) as raised:
        load(source, example, inputs=[parse_input(text) for text in inputs], scratch=scratch)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_the_first_axis_of_an_example_is_free(small: Model) -> None:
    assert [str(spec) for spec in small.signature.inputs] == ["input: float32[?,3,6,6]"]
    assert [str(spec) for spec in small.signature.outputs] == ["output: float32[?,64]"]


def test_free_dimensions_bear_the_name_they_were_given(small: Model) -> None:
    dims = small.graph.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 3, 6, 6]


def test_the_original_is_kept_and_the_graph_computes_what_it_does(small: Model) -> None:
    assert small.torch is not None
    original = open_exported_program(small.torch.location).module()
    x = np.random.default_rng(1).normal(size=(5, 3, 6, 6)).astype(np.float32)
    with torch.no_grad():
        want = original(torch.from_numpy(x)).numpy()
    got = run(small, dict(zip(small.torch.inputs, [x], strict=True)))
    np.testing.assert_allclose(got[small.torch.outputs[0]], want, rtol=1e-4, atol=1e-5)


def test_the_exporters_notes_are_trimmed(small: Model) -> None:
    assert b"pkg.torch" not in small.payload


@pytest.mark.parametrize("kept", [False, True])
def test_batch_norms_are_kept_where_asked_for(tmp_path: Path, kept: bool) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    image = torch.randn(1, 3, 6, 6)
    net.train()(torch.randn(16, 3, 6, 6))  # statistics of its own
    model = load(net, image, scratch=tmp_path, keep_batch_norms=kept)
    norms = ["BatchNormalization"] if kept else []
    assert [node.op_type for node in model.graph.graph.node] == ["Conv", *norms, "Relu"]
    np.testing.assert_allclose(
        run(model, {"input": image.numpy()})["output"],
        net.eval()(image).detach().numpy(),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_pt2_file_keeps_its_free_dimensions(small: Model, tmp_path: Path) -> None:
    assert small.torch is not None
    path = shutil.copy(small.torch.location, tmp_path / "small.pt2")
    again = load(path, inputs=[parse_input("image=float32[n,3,6,6]")], scratch=tmp_path)
    assert again.name == "small"
    assert [str(spec) for spec in again.signature.inputs] == ["image: float32[?,3,6,6]"]
    assert again.torch is not None
    assert again.torch.location == str(path)


def test_a_callable_is_called_and_put_in_evaluation_mode(net_file: str, tmp_path: Path) -> None:
    net = load(f"{net_file}:make", inputs=[parse_input("x=float32[n,4]")], scratch=tmp_path)
    assert net.torch is not None
    assert net.torch.location == f"{net_file}:make"
    x = np.ones((3, 4), np.float32)
    np.testing.assert_array_equal(run(net, {"x": x})["output"], run(net, {"x": x})["output"])
    assert "Dropout" not in {node.op_type for node in net.graph.graph.node}


def test_a_dict_as_example_goes_by_the_names_of_forward(tmp_path: Path) -> None:
    example = {"right": np.ones((2, 4), np.float32), "left": np.zeros((2, 4), np.float32)}
    net = load(TwoInputs(), example, scratch=tmp_path)
    assert net.torch is not None
    assert net.torch.inputs == ("left", "right")
    np.testing.assert_array_equal(run(net, example)["output"], np.full((2, 4), 2.0))


def test_any_number_of_arguments_and_computed_shapes_are_exported(tmp_path: Path) -> None:
    inputs = [parse_input("a=float32[rows,4]"), parse_input("b=float32[rows,4]")]
    net = load(Summed(), inputs=inputs, scratch=tmp_path)
    assert net.torch is not None
    ones = torch.ones(3, 4)
    assert open_exported_program(net.torch.location).module()(ones, ones).shape == (6, 2)
    assert run(net, {"a": ones.numpy(), "b": ones.numpy()})["output"].shape == (6, 2)


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load(nn.Linear(4, 3), torch.zeros(2, 4), scratch=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_batch_that_cannot_be_free_is_refused_with_what_to_do(tmp_path: Path) -> None:
    message = _message(FixedBatch(), tmp_path, example=torch.zeros(2, 4))
    assert "Expected a model that torch.export takes with x=float32[batch,4], got " in message
    assert "(give the dimensions as numbers if the model fixes them)" in message


def test_a_batch_given_as_a_number_is_fixed(tmp_path: Path) -> None:
    net = load(FixedBatch(), inputs=[parse_input("x=float32[2,4]")], scratch=tmp_path)
    assert net.signature.inputs[0].shape == (2, 4)


def test_a_shape_the_model_does_not_take_is_refused(tmp_path: Path) -> None:
    message = _message(nn.Linear(4, 3), tmp_path, "input=float32[n,5]")
    assert message.startswith("Expected a model that torch.export takes with input=float32[n,5]")


def test_a_module_without_inputs_or_example_is_refused(tmp_path: Path) -> None:
    assert "Expected the inputs' names, dtypes and shapes, got none" in _message(
        nn.Linear(4, 3), tmp_path
    )


def test_an_example_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    message = _message(TwoInputs(), tmp_path, example=(torch.zeros(2, 4), "two"))
    assert "Expected a tensor or an array as example for right, got str" in message


def test_an_example_for_no_argument_is_refused(tmp_path: Path) -> None:
    message = _message(TwoInputs(), tmp_path, example={"middle": torch.zeros(2, 4)})
    assert "an argument of forward: left, right, got middle" in message


def test_more_examples_than_arguments_are_refused(tmp_path: Path) -> None:
    message = _message(nn.Linear(4, 3), tmp_path, example=(torch.zeros(2, 4),) * 2)
    assert "Expected at most 1 examples, for input, got 2" in message


def test_examples_of_several_batch_sizes_are_refused(tmp_path: Path) -> None:
    message = _message(TwoInputs(), tmp_path, example=(torch.zeros(2, 4), torch.zeros(3, 4)))
    assert "Expected examples of one batch size on the first axis, got sizes [2, 3]" in message


def test_a_callable_that_returns_something_else_is_refused(net_file: str, tmp_path: Path) -> None:
    message = _message(f"{net_file}:number", tmp_path, "x=float32[n,4]")
    assert "Expected a callable that returns an nn.Module, got one that returns int" in message


def test_a_callable_that_fails_is_refused_with_its_reason(net_file: str, tmp_path: Path) -> None:
    message = _message(f"{net_file}:broken", tmp_path, "x=float32[n,4]")
    assert "got ValueError: no weights here - at" in message


@dataclasses.dataclass
class Answer:
    """What transformers' models return, so to speak."""

    logits: torch.Tensor
    past: tuple[torch.Tensor, torch.Tensor] | None = None
    hidden: torch.Tensor | None = None


torch.export.register_dataclass(Answer, serialized_type_name="tests.Answer")


class Named(nn.Module):
    """Returns its answer in this form; the second argument is rarely given."""

    def __init__(self, form: str = "dict") -> None:
        super().__init__()
        self.layer, self.form = nn.Linear(4, 3), form

    def forward(
        self,
        ids: torch.Tensor,
        past: torch.Tensor | None = None,
        mask: torch.Tensor | None = None,
        *,
        shift: torch.Tensor | None = None,
    ) -> Any:
        y = self.layer(ids if mask is None else ids * mask)
        y = y if shift is None else y + shift
        assert past is None
        if self.form == "dict":
            return {"scores": y, "size": y.abs()}
        if self.form == "nested":
            return {"scores": y, "more": [y.abs(), {"half": y / 2}]}
        return Answer(y, hidden=y.abs())


class OfDict(nn.Module):
    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return batch["a"] + 2 * batch["b"]


ROWS = torch.arange(8.0).reshape(2, 4)
CALLS: dict[str, tuple[nn.Module, Any, dict[str, torch.Tensor], tuple[str, ...]]] = {
    "dict": (Named(), ROWS, {"ids": ROWS}, ("scores", "size")),
    "nested": (Named("nested"), ROWS, {"ids": ROWS}, ("scores", "more_0", "more_1_half")),
    "dataclass": (Named("dataclass"), ROWS, {"ids": ROWS}, ("logits", "hidden")),
    "keywords": (
        Named("dataclass"),
        {"mask": ROWS + 1, "ids": ROWS, "shift": ROWS[:, :3]},
        {"ids": ROWS, "mask": ROWS + 1, "shift": ROWS[:, :3]},
        ("logits", "hidden"),
    ),
    "a dict": (OfDict(), ({"a": ROWS, "b": ROWS + 1},), {"a": ROWS, "b": ROWS + 1}, ("output",)),
}


@pytest.mark.parametrize("name", CALLS)
def test_inputs_and_outputs_keep_the_names_they_have_in_python(name: str, tmp_path: Path) -> None:
    module, example, feed, outputs = CALLS[name]
    net = load(module, example, scratch=tmp_path)
    arrays = {key: value.numpy() for key, value in feed.items()}

    assert [spec.name for spec in net.signature.inputs] == list(feed)
    assert tuple(spec.name for spec in net.signature.outputs) == outputs
    graph_says = run(net, arrays)
    runtime = get_runtime("pytorch")
    session = runtime.open(runtime.lower(net, tmp_path), Execution())
    original = session.run(arrays)
    session.close()
    with torch.no_grad():
        said = module(**feed) if name != "a dict" else module(feed)
    want = [value for _, value in named_tensors(said)]
    for at, key in enumerate(outputs):
        np.testing.assert_allclose(graph_says[key], want[at].numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(original[key], want[at].numpy(), rtol=1e-5, atol=1e-5)
    if name != "a dict":
        known = parameter_names(net.graph)
        assert known is not None
        assert known.trained == ("layer.weight", "layer.bias")


def test_a_callable_is_called_by_keyword_where_an_argument_is_left_out(tmp_path: Path) -> None:
    inputs = [parse_input("mask=float32[n,4]"), parse_input("ids=float32[n,4]")]
    net = load("test_torch_export:Named", inputs=inputs, scratch=tmp_path)
    runtime = get_runtime("pytorch")
    session = runtime.open(runtime.lower(net, tmp_path), Execution())
    feed = {"ids": ROWS.numpy(), "mask": ROWS.numpy()}

    assert list(session.run(feed)) == ["scores", "size"]
    session.close()


class Biased(nn.Module):
    """Attention with a learnt bias, as in BEiT: torch's kernel lays its heads out otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(2, 5, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.reshape(-1, 5, 2, 4).transpose(1, 2)
        found = f.scaled_dot_product_attention(heads, heads, heads, attn_mask=self.bias[None])
        return found.transpose(1, 2).reshape(-1, 5, 8)


def test_attention_with_a_learnt_bias_is_exported(tmp_path: Path) -> None:
    net, x = Biased(), torch.randn(3, 5, 8)
    found = run(load(net, x, scratch=tmp_path), {"x": x.numpy()})["output"]
    np.testing.assert_allclose(found, net(x).detach().numpy(), rtol=1e-4, atol=1e-5)
