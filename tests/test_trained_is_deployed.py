"""What is trained is what runs: module and deployed graph, tensor by tensor, on every runtime.

Networks of one input are trained together, as one module with an output for each.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import groupby

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import hasten
from deployable_nets import NETS
from hasten.compress import TrainQuantized
from hasten.compress.train_quantized import QuantizedTraining
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import Model
from hasten.train.training_graph import Recipe, training_graph
from onnx_models import model, value, weight

CONFIGS = [
    TrainQuantized(),
    TrainQuantized(activations="s8", weights="w7", ranges="observed"),
    TrainQuantized(weights="w7", ranges="observed"),
    TrainQuantized(activations="s8"),
]
#: Networks that are trained together.
TOGETHER = 9
#: Where a network is not run: OpenVINO pads integers with 0, whatever their zero point is.
ELSEWHERE = {"padded average pool": ("onnxruntime", "litert")}


class Several(nn.Module):
    """Networks of one input, each with an output of its name."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.nets = nn.ModuleList(NETS[name]() for name in names)
        self.names = [name.replace(" ", "_").replace("-", "_") for name in names]

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: net(x) for name, net in zip(self.names, self.nets, strict=True)}


def groups() -> list[tuple[str, ...]]:
    shapes = {name: (net().shape, name in ELSEWHERE) for name, net in NETS.items()}
    ordered = sorted(shapes, key=lambda name: (shapes[name], list(shapes).index(name)))
    found = []
    for _, names in groupby(ordered, key=shapes.__getitem__):
        alike = tuple(names)
        found += [alike[at : at + TOGETHER] for at in range(0, len(alike), TOGETHER)]
    return found


@cache
def exported(names: tuple[str, ...]) -> tuple[Model, torch.Tensor]:
    nets = Several(names)
    torch.manual_seed(1)
    x = torch.randn(24, *NETS[names[0]]().shape)
    return hasten.load(nets, x), x


def trained(names: tuple[str, ...], config: TrainQuantized) -> tuple[QuantizedTraining, Samples]:
    """Train towards noise at a rate at which everything moves."""
    model, x = exported(names)
    training = hasten.qat(model, Samples({"x": x.numpy()}), config=config)
    torch.manual_seed(2)
    module = training.module.train()
    goal = {name: torch.randn_like(value) for name, value in module({"x": x}).items()}
    optimizer = torch.optim.AdamW(module.parameters(), 2e-2)
    for _ in range(5):
        found = module({"x": x})
        loss = torch.stack([(found[name] - goal[name]).square().mean() for name in goal]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    module.eval()
    return training, Samples({"x": x[:6].numpy()})


@pytest.mark.parametrize(
    ("at", "names"),
    list(enumerate(groups())),
    ids=lambda one: one if isinstance(one, int) else one[0],
)
def test_the_module_computes_what_is_deployed(at: int, names: tuple[str, ...]) -> None:
    """Each group with another setting: all with all are a benchmark."""
    config = CONFIGS[at % len(CONFIGS)]
    training, samples = trained(names, config)
    model = training.finish()
    for runtime in ELSEWHERE.get(names[0], ("onnxruntime", "openvino", "litert")):
        found = training.parting(model, samples, runtime)
        # Signed softmax has not the steps of TFLite's kernel, and is rounded twice there.
        signed = runtime == "litert" and config.activations == "s8"
        beyond = [one for one in found.tensors if not (signed and "Softmax" in one.operator)]
        assert found.compared, runtime
        assert not beyond, f"{found}"


def changed(model: Model, name: str, factor: float) -> Model:
    """Return the model with one of its constants multiplied."""
    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    for tensor in graph.graph.initializer:
        if tensor.name == name:
            value = numpy_helper.to_array(tensor) * np.float32(factor)
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    return replace(model, content=graph)


def test_the_first_operator_that_parts_is_named() -> None:
    training, samples = trained(("attention",), CONFIGS[0])
    model = training.finish()
    weight = next(one.name for one in model.graph.graph.initializer if "k.weight_sc" in one.name)

    found = training.parting(changed(model, weight, 1.1), samples)

    assert not found.agrees
    assert len(found.tensors) == 1  # what follows is fed with what is deployed
    assert found.first is not None
    assert found.first.operator.startswith("MatMul")
    assert found.first.steps > 1
    assert found.outputs[0].parted > 0
    assert "MatMul" in str(found)


def test_a_tensor_that_is_read_elsewhere_is_still_told_apart() -> None:
    """Steps are those of the output where it is rounded, else a 255th of what it spans."""
    training, samples = trained(("log softmax at the end", "gemm"), CONFIGS[0])

    found = training.parting(training.finish(), samples)

    assert [one.name for one in found.outputs] == ["log_softmax_at_the_end", "gemm"]
    assert [one.values for one in found.outputs] == [24, 24]
    assert all(one.parted == 0 and one.share == 0 and one.steps < 0.5 for one in found.outputs)


def product(made: bool) -> onnx.ModelProto:
    """x times a constant, or times what a node makes of one of another name."""
    nodes = [helper.make_node("MatMul", ["x", "w_t"], ["y"])]
    if made:
        nodes.insert(0, helper.make_node("Identity", ["c"], ["w_t"]))
    constant = weight("c" if made else "w_t", 4, 4)
    return model([*nodes], [value("x", ["n", 4])], [value("y", ["n", 4])], [constant])


def test_what_training_would_lose_is_refused_by_name() -> None:
    transposed = helper.make_node("Transpose", ["w"], ["w_t"])
    recipe = Recipe({"w"}, {"w_t": [transposed]}, {"w": weight("w", 4, 4)})

    assert training_graph(product(made=False), product(made=False), recipe).places == {"w_t": "w_t"}
    with pytest.raises(RefusedError, match=r"the quantized graph has no place for w$"):
        training_graph(product(made=True), product(made=False), recipe)


def test_integers_that_are_made_of_nothing_known_are_refused_by_name() -> None:
    training, _ = trained(("gemm",), CONFIGS[0])

    with pytest.raises(RefusedError, match=r"a\.weight_quantized is not made of a float constant"):
        training_graph(training.deployed, product(made=False), Recipe(set()))
