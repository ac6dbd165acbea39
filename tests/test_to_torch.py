"""Back to PyTorch: the caller's module with trained weights, or a pruned graph as a module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import hasten
from deployable_nets import NETS, Net, images
from hasten.compress import Context, Finetune, PruneChannels, StaticInt8, apply_step
from hasten.data import Samples
from hasten.errors import ModelError, RefusedError
from hasten.graph import fold_derived, write_onnx
from hasten.graph.batch_norm import without_batch_norms
from hasten.train import GraphModule, to_torch
from nets import conv_net
from onnx_models import model, run, value


class Normed(nn.Module):
    """A folded batch norm behind a layer with a bias, one without, and one that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.an = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=0.01)
        self.b, self.bn = nn.Conv2d(4, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.last = nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn(self.b(torch.relu(self.an(self.a(x)))))
        found: torch.Tensor = self.last(torch.relu(y))
        return found


def moved(net: nn.Module) -> GraphModule:
    """The net's graph with all that training changes somewhere else."""
    x = torch.randn(2, *getattr(net, "shape", (3, 8, 8)))
    module = GraphModule(hasten.load(net, x, keep_batch_norms=True).graph)
    with torch.no_grad():
        module.train()(x)
        for parameter in module.parameters():
            parameter.mul_(1.1).add_(0.05)
    return module.eval()


@pytest.mark.parametrize("name", ["tied", "attention", "lstm", "embedding", "linear on tokens"])
def test_trained_weights_come_back_into_the_module(name: str) -> None:
    torch.manual_seed(0)
    net = NETS[name]()
    trained = moved(net)
    x = torch.randn(3, *net.shape)

    found = hasten.to_torch(trained, net)

    assert found is net
    with torch.no_grad():
        np.testing.assert_allclose(found(x), trained(x), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("folded", [False, True])
def test_batch_norms_come_back_whether_they_were_folded_or_not(
    folded: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    net = Normed().train()
    net(torch.randn(8, 3, 8, 8))
    model = hasten.load(net.eval(), torch.randn(2, 3, 8, 8), keep_batch_norms=True)
    context = Context(tmp_path, training=Samples({"x": np.ones((8, 3, 8, 8), np.float32)}))
    context.teacher = hasten.load(Normed(), torch.randn(2, 3, 8, 8))
    step = Finetune(epochs=1, batch=4, held_out=0.0, alpha=0.0, learning_rate=0.1)
    tuned = apply_step(model, step, context)
    tuned = without_batch_norms(tuned) if folded else tuned
    write_onnx(tuned, tmp_path / "tuned.onnx")
    x = torch.randn(3, 3, 8, 8)

    found = hasten.to_torch(tmp_path / "tuned.onnx", net)

    name = model.signature.outputs[0].name
    want = run(tuned, {"x": x.numpy()})[name]
    with torch.no_grad():
        np.testing.assert_allclose(found(x).numpy(), want, rtol=1e-3, atol=1e-4)


def test_a_pruned_graph_is_a_module_of_its_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = images(lambda net, x: net.b(net.a(x).relu()), a=nn.Conv2d(3, 8, 3), b=nn.Conv2d(8, 4, 1))
    model = hasten.load(net, torch.randn(2, 3, 8, 8))
    pruned = apply_step(model, PruneChannels(0.5, multiple=2), Context(tmp_path))

    with pytest.raises(RefusedError, match=r"a\.weight is \[4, 3, 3, 3\] in the graph and \[8, 3"):
        to_torch(pruned, net)
    found = to_torch(pruned)

    assert {name: list(one.shape) for name, one in found.state_dict().items()} == {
        "a.weight": [4, 3, 3, 3],
        "a.bias": [4],
        "b.weight": [4, 4, 1, 1],
        "b.bias": [4],
    }
    x = torch.randn(2, 3, 8, 8)
    again = to_torch(pruned)
    again.load_state_dict(found.train().state_dict())
    assert torch.equal(again(x), found(x))


def test_weights_that_make_the_module_something_else_are_refused_and_taken_back() -> None:
    net = Net((4,), lambda net, x: net.a(x) * net.scale, a=nn.Linear(4, 3), scale=torch.ones(3))
    model = hasten.load(net, torch.randn(2, 4))
    net.get_buffer("scale").fill_(2.0)
    other = Net((4,), lambda net, x: net.a(x).exp(), a=nn.Linear(4, 3))
    before = other.get_parameter("a.weight").clone()

    with pytest.raises(RefusedError, match="computes something else: off by"):
        to_torch(model, other)

    assert torch.equal(other.get_parameter("a.weight"), before)


def test_a_graph_that_never_was_a_module_is_refused() -> None:
    with pytest.raises(ModelError, match="exported from PyTorch"):
        to_torch(conv_net(), nn.Linear(3, 3))


def test_a_quantized_graph_is_refused(tmp_path: Path) -> None:
    model = hasten.load(NETS["conv"](), torch.randn(2, 3, 8, 8))
    samples = Samples({"x": np.ones((4, 3, 8, 8), np.float32)})
    quantized = apply_step(model, StaticInt8(), Context(tmp_path, calibration=samples))

    with pytest.raises(RefusedError, match="integers"):
        to_torch(quantized)


def test_derived_constants_cannot_come_back() -> None:
    torch.manual_seed(0)
    net = NETS["tied"]()
    model = hasten.load(net, torch.randn(2, *net.shape))
    folded, derived = fold_derived(model.graph)

    assert len(derived) == 1
    assert to_torch(folded, net) is net  # nothing has changed


def test_what_the_reference_fails_at_stays_a_node() -> None:
    """Its GatherElements knows 64 places along an axis at most."""
    table, places = np.ones((2, 99), np.float32), np.full((2, 40), 98)
    nodes = [
        helper.make_node("GatherElements", ["table", "places"], ["some"], axis=1),
        helper.make_node("Add", ["x", "some"], ["y"]),
    ]
    held = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(places, "places")]
    graph = model(nodes, [value("x", [2, 40])], [value("y", [2, 40])], held)
    assert fold_derived(graph) == (graph, {})
