"""Samples that stand along another axis of an output are trained and judged as any others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from hasten.compress import Context, Distill, Finetune, TrainQuantized, apply_step
from hasten.data import Samples
from hasten.graph import Model, Signature, TensorSpec, initializer_arrays, model_from_proto
from hasten.train.validation import answer_of, axes_of

STEPS, CLASSES, WIDTH = 6, 3, 4
ORDERS = {"samples first": (0, 1, 2), "steps first": (1, 0, 2), "samples last": (1, 2, 0)}
#: As many samples a minibatch as there are steps: sizes alone do not tell axes apart.
HOW: dict[str, Any] = {"epochs": 2, "batch": STEPS, "learning_rate": 0.02, "held_out": 0.25}


def net(order: tuple[int, ...], seed: int) -> Model:
    """Scores over steps, [n, steps, classes] in another order of axes."""
    random = np.random.default_rng(seed)
    weights = random.normal(size=(WIDTH, CLASSES)).astype(np.float32)
    sizes = ("n", STEPS, CLASSES)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["scores"]),
            helper.make_node("Transpose", ["scores"], ["y"], perm=order),
        ],
        "steps",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", STEPS, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [sizes[at] for at in order])],
        [numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model_from_proto(made)


def samples(*, labelled: bool) -> Samples:
    random = np.random.default_rng(0)
    x = random.normal(size=(48, STEPS, WIDTH)).astype(np.float32)
    labels = x[..., :CLASSES].argmax(-1)
    return Samples({"x": x}, labels=labels) if labelled else Samples({"x": x})


def trained(step: str, order: tuple[int, ...], folder: Path) -> tuple[NDArray[Any], list[str]]:
    """Return the weights after a training, and its notes."""
    context = Context(folder, samples(labelled=False), training=samples(labelled=step == "labels"))
    if step == "labels":
        made = apply_step(net(order, 1), Finetune(**HOW), context)
    else:
        context.teacher = net(order, 2)
        config = Distill(**HOW) if step == "teacher" else TrainQuantized(**HOW)
        made = apply_step(net(order, 1), config, context)
    weights = initializer_arrays(made.graph.graph)
    name = next(name for name, one in weights.items() if one.shape == (WIDTH, CLASSES))
    return weights[name], context.notes


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("step", ["labels", "teacher", "int8"])
def test_the_same_is_learnt_wherever_samples_stand(step: str, order: str, tmp_path: Path) -> None:
    wanted, said = trained(step, ORDERS["samples first"], tmp_path)
    found, notes = trained(step, ORDERS[order], tmp_path)

    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    assert not np.allclose(found, initializer_arrays(net(ORDERS[order], 1).graph.graph)["w"])
    assert [one.rpartition(", ")[2] for one in notes] == [one.rpartition(", ")[2] for one in said]


class Normed(nn.Module):
    """A batch norm between names."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"y": self.norm(inputs["x"])}


def test_looking_at_outputs_in_a_training_changes_nothing() -> None:
    """Batch norms would take in what they are shown, and refuse a single sample."""
    module = Normed().train()
    x = TensorSpec("x", "float32", (None, WIDTH))
    signature = Signature((x,), (TensorSpec("y", "float32", (None, WIDTH)),))
    few = Samples({"x": np.full((5, WIDTH), 3.0, np.float32)})

    axes = axes_of(answer_of(module, signature), few, signature)

    assert axes["y"].axis == 0
    assert module.training
    assert module.norm.training
    assert module.norm.running_mean is not None
    assert not module.norm.running_mean.any()
