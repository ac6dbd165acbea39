"""Graphs as PyTorch modules: the same numbers, gradients, and the way back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import nn

from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import (
    ParameterNames,
    export_torch,
    model_from_proto,
    parse_input,
    with_parameter_names,
)
from hasten.train import GraphModule
from nets import conv_net, images
from onnx_models import branching, conv_bn, linear, model, run, value, weight

SUITE = Path(__file__).with_name("training_conformance.py")


@pytest.fixture(scope="module")
def conformance() -> dict[str, dict[str, Any]]:
    """All outcomes, from a process in which warnings of ONNX's own tests are no errors."""
    done = subprocess.run([sys.executable, SUITE, "--json"], capture_output=True, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def test_every_node_test_of_onnx_agrees_or_is_refused_by_name(
    conformance: dict[str, dict[str, Any]],
) -> None:
    statuses = {name: one["status"] for name, one in conformance.items()}

    assert {name for name, status in statuses.items() if status in {"wrong", "failed"}} == set()
    assert sum(status == "passed" for status in statuses.values()) > 1000


def test_what_is_refused_is_named_with_its_reason(
    conformance: dict[str, dict[str, Any]],
) -> None:
    reason = conformance["test_dropout_default_mask"]["reason"]

    assert reason == "cannot be trained: operator Dropout (node output y): its mask is asked for"


@pytest.mark.parametrize("net", [conv_net, conv_bn, linear], ids=lambda net: net.__name__)
def test_outputs_are_those_of_onnx_runtime(net: Any) -> None:
    proto = net()
    shape = [dim.dim_value or 5 for dim in proto.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    name, expected = next(iter(run(model_from_proto(proto), {"x": x}).items()))

    with torch.no_grad():
        found = GraphModule(proto)({"x": torch.from_numpy(x)})[name]

    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


class Small(nn.Module):
    """A convolution, a batch norm and a classifier, as users write them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = torch.relu(self.conv(x)).mean((2, 3))
        return torch.tanh(self.head(self.norm(pooled)))


@pytest.mark.parametrize("net", [conv_net, conv_bn, linear], ids=lambda net: net.__name__)
def test_a_module_moves_to_another_device_whole(net: Any) -> None:
    """The device "meta" holds shapes alone, and takes no tensor of another device."""
    proto = net()
    shape = [dim.dim_value or 5 for dim in proto.graph.input[0].type.tensor_type.shape.dim]

    found = GraphModule(proto).to("meta")(torch.ones(shape, device="meta"))

    assert found.device.type == "meta"


def test_gradients_are_those_of_the_module_it_was_exported_from(tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = Small()
    exported = export_torch(source, [parse_input("x=float32[n,3,8,8]")], scratch=tmp_path)
    module = GraphModule(exported.graph)
    x = torch.randn(4, 3, 8, 8)

    source(x).square().sum().backward()
    module(x).square().sum().backward()

    want = sorted(p.grad.norm().item() for p in source.parameters() if p.grad is not None)
    have = sorted(p.grad.norm().item() for p in module.parameters() if p.grad is not None)
    np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-6)


def test_one_input_is_taken_as_a_tensor_or_by_name() -> None:
    module = GraphModule(linear())
    x = torch.ones(2, 4)

    assert torch.equal(module(x), module({"x": x})["y"])


def test_other_tensors_of_the_graph_can_be_asked_for() -> None:
    found = GraphModule(conv_net(), outputs=["r1", "y"])({"x": torch.from_numpy(images(2))})

    assert {name: list(each.shape) for name, each in found.items()} == {
        "r1": [2, 16, 12, 12],
        "y": [2, 10],
    }


def test_weights_are_parameters_by_their_names_in_the_graph() -> None:
    module = GraphModule(conv_bn())

    assert {name for name in "wgbmv" if module.parameter_of(name) is not None} == {"w", "g", "b"}
    assert len(list(module.parameters())) == 3


def test_names_with_dots_are_parameters_too() -> None:
    proto = model(
        [
            helper.make_node("MatMul", ["x", "a.b"], ["h"]),
            helper.make_node("MatMul", ["h", "a/b"], ["y"]),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [weight("a.b", 4, 4, seed=1), weight("a/b", 4, 4, seed=2)],
    )

    module = GraphModule(proto)

    assert module.parameter_of("a.b") is not module.parameter_of("a/b")


def test_the_normalisation_of_the_input_and_numbers_in_formulas_are_not_trained() -> None:
    constants = {"mean": np.ones(4), "bias": np.ones(3), "half": np.array(0.5)}
    proto = model(
        [
            helper.make_node("Mul", ["x", "mean"], ["n"]),
            helper.make_node("MatMul", ["n", "w"], ["h"]),
            helper.make_node("Add", ["h", "bias"], ["b"]),
            helper.make_node("Mul", ["b", "half"], ["y"]),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [
            weight("w", 4, 3),
            *(numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()),
        ],
    )
    module = GraphModule(proto)

    assert [name for name in ("w", *constants) if module.parameter_of(name) is not None] == [
        "w",
        "bias",
    ]


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_the_graph_that_is_written_back_computes_what_the_module_does(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    module = GraphModule(conv_net())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=random))
        x = images(2)
        want = module(torch.from_numpy(x)).numpy()

    found = run(model_from_proto(module.to_graph()), {"x": x})["y"]

    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


def test_an_untouched_graph_is_written_back_as_it_was() -> None:
    assert GraphModule(conv_bn()).to_graph() == conv_bn()


def test_batch_norms_move_their_statistics_in_training_alone() -> None:
    module = GraphModule(conv_bn())
    x = torch.randn(4, 3, 8, 8)
    before = module.value_of("m")

    module(x)
    assert np.array_equal(module.value_of("m"), before)
    module.train()
    module.freeze_batch_norm()
    module(x)
    assert np.array_equal(module.value_of("m"), before)
    module.freeze_batch_norm(False)
    module(x)
    moved = module.value_of("m")
    assert not np.array_equal(moved, before)
    written = {tensor.name: tensor for tensor in module.to_graph().graph.initializer}
    assert np.array_equal(numpy_helper.to_array(written["m"]), moved)


@pytest.mark.parametrize("training", [True, False])
def test_statistics_that_are_computed_are_taken_as_they_come(training: bool) -> None:
    """Those of a weight that is standardised, to which gradients flow; they are no running ones."""
    nodes = [
        helper.make_node("ReduceMean", ["w", "over"], ["mean"], keepdims=0),
        helper.make_node("ReduceSumSquare", ["w", "over"], ["variance"], keepdims=0),
        helper.make_node("BatchNormalization", ["w", "gain", "shift", "mean", "variance"], ["n"]),
        helper.make_node("MatMul", ["x", "n"], ["y"]),
    ]
    constants = [weight("w", 3, 4), weight("gain", 4), weight("shift", 4)]
    constants.append(numpy_helper.from_array(np.array([0]), "over"))
    graph = model(nodes, [value("x", ["n", 3])], [value("y", ["n", 4])], constants)
    module = GraphModule(with_parameter_names(graph, ParameterNames(("w", "gain", "shift"))))
    module.train(training)
    w, gain, shift = (module.get_parameter(name) for name in ("w", "gain", "shift"))
    x = torch.randn(2, 3)

    found = module(x)

    normal = (w - w.mean(0)) / (w.square().sum(0) + 1e-5).sqrt()
    want = x @ (normal * gain + shift)
    torch.testing.assert_close(found, want)
    each = [torch.autograd.grad(y.square().sum(), w, retain_graph=True)[0] for y in (found, want)]
    torch.testing.assert_close(*each)


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("ReduceL2", ["h", "over"], ["y"])],
        [
            helper.make_node("ReduceSumSquare", ["h", "over"], ["s"]),
            helper.make_node("Sqrt", ["s"], ["y"]),
        ],
    ],
    ids=["ReduceL2", "Sqrt"],
)
def test_a_norm_of_zeros_has_the_gradient_0(nodes: list[onnx.NodeProto]) -> None:
    """Int8 rounds whole channels to 0; one of them would make all weights no numbers."""
    constants = [weight("w", 3, 4), numpy_helper.from_array(np.array([1]), "over")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), *nodes]
    module = GraphModule(model(nodes, [value("x", ["n", 3])], [value("y", ["n", 1])], constants))
    x = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    w = module.get_parameter("w")

    found = module(x)
    found.sum().backward()

    assert found[0] == 0
    want = x[1, :, None] * (x[1] @ w / found[1]).detach()
    torch.testing.assert_close(w.grad, want)


def test_control_flow_is_refused_by_name() -> None:
    with pytest.raises(RefusedError, match=r"^cannot be trained: operator If \(node choose\)$"):
        GraphModule(branching())


def test_every_operator_that_cannot_be_trained_is_named() -> None:
    nodes = [
        helper.make_node("Hardmax", ["x"], ["h"], name="hard"),
        helper.make_node("Odd", ["h"], ["y"], name="odd", domain="my.own"),
    ]
    proto = model(nodes, [value("x", [1, 4])], [value("y", [1, 4])], domains=["my.own"])

    with pytest.raises(RefusedError, match=r"Hardmax \(node hard\), operator my.own::Odd \(node"):
        GraphModule(proto)


def test_an_input_of_a_wrong_shape_fails_at_the_node_that_cannot_take_it() -> None:
    with pytest.raises(RuntimeFailureError, match=r"torch could not run MatMul \(node product\)"):
        GraphModule(linear())(torch.ones(2, 5))


def test_a_state_dict_restores_the_module() -> None:
    trained, fresh = GraphModule(conv_bn()), GraphModule(conv_bn())
    with torch.no_grad():
        trained.train()(torch.randn(4, 3, 8, 8))
    fresh.load_state_dict(trained.state_dict())

    assert fresh.to_graph() == trained.to_graph()
    onnx.checker.check_model(fresh.to_graph())
