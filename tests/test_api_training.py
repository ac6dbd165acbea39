"""Networks of PyTorch that are trained from Python: batch norms live until training is over."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

import hasten
from hasten import Data, Way
from hasten.compress import Distill, Finetune, PruneChannels
from hasten.graph import load

RANDOM = np.random.default_rng(0)
STILL = 1e-9  # a learning rate that leaves weights where they are: only statistics move


def student() -> nn.Module:
    """Its batch norm knows nothing yet: what reaches it is a hundred times what it thinks."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )
    with torch.no_grad():
        net[0].weight.mul_(100)  # type: ignore[operator]
    return net


def images(count: int) -> np.ndarray:
    return RANDOM.normal(size=(count, 3, 6, 6)).astype(np.float32)


def way() -> Way:
    return Way(rounds=0, cache=False, example=torch.zeros(1, 3, 6, 6))


def samples(folder: Path) -> Data:
    path = folder / "data.npz"
    np.savez(path, input=images(32), labels=RANDOM.integers(0, 2, 32))
    return Data(path, training=path)


def first_weight(graph: onnx.ModelProto) -> np.ndarray:
    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    layer = next(node for node in graph.graph.node if node.op_type == "Conv")
    return numpy_helper.to_array(weights[layer.input[1]])


def check_trained(path: Path, folder: Path) -> None:
    trained = onnx.load(path)
    assert "BatchNormalization" not in {node.op_type for node in trained.graph.node}
    before = load(student(), torch.zeros(1, 3, 6, 6), scratch=folder).graph
    shrunk = np.abs(first_weight(trained)).mean() / np.abs(first_weight(before)).mean()
    assert shrunk < 0.5


def test_a_student_is_distilled_with_its_batch_norms(tmp_path: Path) -> None:
    out = tmp_path / "student.onnx"
    step = Distill(epochs=4, batch=8, learning_rate=STILL, held_out=0.0, freeze_batch_norm_after=1)
    hasten.distill(student(), student(), samples(tmp_path), out=out, step=step, way=way())
    check_trained(out, tmp_path)


def test_a_network_is_fine_tuned_with_its_batch_norms(tmp_path: Path) -> None:
    out = tmp_path / "tuned.onnx"
    step = Finetune(epochs=4, batch=8, learning_rate=STILL, held_out=0.0, freeze_batch_norm_after=1)
    hasten.finetune(student(), samples(tmp_path), out=out, step=step, way=way())
    check_trained(out, tmp_path)


@pytest.mark.parametrize("kind", ["module", "file"])
def test_batch_norms_tell_which_channels_go_and_are_folded_afterwards(
    kind: str, tmp_path: Path
) -> None:
    """Channels 0 and 2 have the small scales, and by their weights 1 and 3 would go."""
    net = student()
    with torch.no_grad():
        net[0].weight[[1, 3]] *= 1e-3  # type: ignore[index]
        net[1].weight[[0, 2]] = 1e-6  # type: ignore[index]
    source: nn.Module | Path = net
    if kind == "file":
        source = tmp_path / "net.onnx"
        whole = load(net, torch.zeros(1, 3, 6, 6), scratch=tmp_path, keep_batch_norms=True)
        onnx.save(whole.graph, source)
    step = PruneChannels(ratio=0.5, multiple=1, importance="batch_norm", reconstruct=False)
    how = replace(way(), example=None) if kind == "file" else way()
    hasten.prune(source, out=tmp_path / "small.onnx", step=step, way=how)
    made = onnx.load(tmp_path / "small.onnx")
    assert "BatchNormalization" not in {node.op_type for node in made.graph.node}
    kept = net[0].weight[[1, 3]].detach().numpy() / np.sqrt(1 + 1e-5)  # type: ignore[index]
    np.testing.assert_allclose(first_weight(made), kept, rtol=1e-4)
