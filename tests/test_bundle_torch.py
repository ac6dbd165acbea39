"""Bundles of PyTorch originals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from bundles import net, plan, write
from hasten.bundle import Bundle
from hasten.errors import ModelError, OutputError
from hasten.graph import (
    Model,
    load,
    open_exported_program,
    parse_input,
    save_torch,
)
from hasten.runtimes import Execution, Lowered, get_runtime
from onnx_models import run

_NET_FILE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 3)

    def forward(self, left, right):
        return self.inner(left) - right, left.sum(dim=1)

def make():
    torch.manual_seed(0)
    return Net()
"""
_INPUTS = [parse_input(text) for text in ("right=float32[batch,3]", "left=float32[batch,4]")]


@pytest.fixture
def from_callable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """A model of two inputs and two outputs, given as package.module:callable."""
    name = f"bundled_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(_NET_FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return load(f"{name}:make", inputs=_INPUTS, scratch=tmp_path)


def pair(batch: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        "left": random.normal(size=(batch, 4)).astype(np.float32),
        "right": random.normal(size=(batch, 3)).astype(np.float32),
    }


def test_a_callable_is_saved_with_its_inputs_in_order_and_its_free_batch(
    from_callable: Model, tmp_path: Path
) -> None:
    save_torch(from_callable, tmp_path / "saved.pt2")
    again = load(tmp_path / "saved.pt2", inputs=[_INPUTS[1], _INPUTS[0]], scratch=tmp_path)
    assert again.signature == from_callable.signature
    module = open_exported_program(tmp_path / "saved.pt2").module()
    feed = pair(5)
    want = run(from_callable, feed)
    got = module(*(torch.from_numpy(feed[name]) for name in ("left", "right")))
    for name, one in zip(want, got, strict=True):
        np.testing.assert_allclose(one.detach().numpy(), want[name], rtol=1e-5, atol=1e-6)


def test_a_bundle_of_pytorch_answers_like_the_original(
    from_callable: Model, tmp_path: Path
) -> None:
    save_torch(from_callable, tmp_path / "saved.pt2")
    lowered = Lowered(str(tmp_path / "saved.pt2"), "pt2", from_callable.signature)
    write(tmp_path / "b", lowered=lowered, plan=plan("pytorch"))
    original = get_runtime("pytorch").open(
        get_runtime("pytorch").lower(from_callable, tmp_path), Execution()
    )
    want = original.run(pair(3))
    with Bundle.open(tmp_path / "b") as opened:
        got = opened.run(pair(3))
    assert list(got) == list(want)
    for name in want:
        np.testing.assert_array_equal(got[name], want[name])


def test_a_pt2_file_is_copied(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    model = load(module, torch.zeros(1, 4), scratch=tmp_path)
    save_torch(model, tmp_path / "copy.pt2")
    assert model.torch is not None
    assert (tmp_path / "copy.pt2").read_bytes() == Path(model.torch.location).read_bytes()


def test_a_model_that_is_not_of_pytorch_cannot_be_saved_as_such(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Expected a model that comes from PyTorch"):
        save_torch(net(), tmp_path / "model.pt2")


def test_an_original_that_is_gone_is_an_error_of_the_model(tmp_path: Path) -> None:
    model = load(nn.Linear(4, 3), torch.zeros(1, 4), scratch=tmp_path)
    assert model.torch is not None
    Path(model.torch.location).unlink()
    with pytest.raises(ModelError, match="no such file"):
        save_torch(model, tmp_path / "copy.pt2")


def test_an_original_that_cannot_be_written_is_one_line(
    from_callable: Model, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match="Expected a file that can be written, got No such file"):
        save_torch(from_callable, tmp_path / "gone" / "copy.pt2")
