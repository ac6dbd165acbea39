"""Steps that train by a loss that fits, or the user's own, and the layers that stay."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import hasten
from hasten.compress import Context, Distill, Finetune, TrainQuantized, apply_step
from hasten.data import Samples
from hasten.errors import HastenError, OptionError, RefusedError
from hasten.graph import Model
from hasten.train.loss_names import own_loss, taken_loss
from hasten.train.outputs import squashes
from onnx_models import run


class Several(nn.Module):
    """Scores behind a softmax, a value behind a sigmoid, features, and numbers of them."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body, self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4), nn.Linear(16, 1)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        h = torch.tanh(self.body(x))
        return {
            "classes": self.a(h).softmax(-1),
            "sure": self.b(h).sigmoid(),
            "largest": self.a(h).argmax(-1),
        }


X = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)


def several(seed: int) -> Model:
    return hasten.load(Several(seed), torch.from_numpy(X[:2]))


@pytest.mark.parametrize("step", [Distill, Finetune, TrainQuantized], ids=lambda one: one.__name__)
def test_every_output_of_a_student_comes_nearer(step: Any, tmp_path: Path) -> None:
    student, teacher = several(1), several(2)
    context = Context(tmp_path, training=Samples({"x": X}), teacher=teacher)
    config = step(epochs=12, learning_rate=1e-2, batch=16, held_out=0.0, alpha=0.0)

    made = apply_step(student, config, context)

    want, before, after = (run(one, {"x": X}) for one in (teacher, student, made))
    for name in ("classes", "sure"):
        apart = [float(np.square(one[name] - want[name]).mean()) for one in (before, after)]
        assert apart[1] < 0.3 * apart[0], name
    note = context.notes[0]
    assert "divergence of classes along axis -1 of classes" in note
    assert "binary divergence of sure" in note
    assert "largest" not in note


def half(outputs: Any, labels: Any, teacher: Any) -> torch.Tensor:
    """Half of the squared difference of one output."""
    assert labels is None or labels.dtype == torch.int64
    wanted = torch.zeros(()) if teacher is None else teacher["sure"]
    found: torch.Tensor = (outputs["sure"] - wanted).square().mean() / 2
    return found


def test_the_users_own_loss_sees_outputs_labels_and_teacher(tmp_path: Path) -> None:
    labels = np.arange(len(X)) % 4
    settings: dict[str, Any] = {"epochs": 4, "learning_rate": 1e-2, "held_out": 0.2, "batch": 16}
    samples = Samples({"x": X}, labels)
    without = Context(tmp_path, training=Samples({"x": X}))
    taught = Context(tmp_path, training=samples, teacher=several(2))

    alone = apply_step(several(1), Finetune(loss=half, **settings), without)
    named = Finetune(loss="test_objective:half", alpha=0.5, **settings)
    apply_step(several(1), named, taught)

    before = run(several(1), {"x": X})["sure"].mean()
    assert run(alone, {"x": X})["sure"].mean() < 0.9 * before
    assert alone.steps[-1].config["loss"] == "test_objective:half"
    assert "loss" in without.notes[-1]


def test_functions_of_one_name_are_told_apart() -> None:
    losses = [lambda outputs, labels, teacher, by=by: by for by in (1, 2)]
    names = [taken_loss(one) for one in losses]

    assert names[0] != names[1]
    assert [own_loss(name) for name in names] == losses
    assert taken_loss(losses[0]) == names[0]


def test_trained_tensors_are_those_before_what_squashes_them() -> None:
    found = squashes(several(1).graph)

    assert {name: squash for name, (_, squash) in found.items()} == {
        "classes": "softmax",
        "sure": "sigmoid",
        "largest": "",
    }
    assert all((tensor == name) == (name == "largest") for name, (tensor, _) in found.items())


BAD: dict[str, tuple[Callable[[], Any], type[HastenError], str]] = {
    "unknown": (
        lambda: Finetune(loss="mes"),
        OptionError,
        r"got 'mes' - at loss \(did you mean mse",
    ),
    "no function": (
        lambda: Finetune(loss="test_objective:missing", epochs=1),
        OptionError,
        "Expected 'missing' in module 'test_objective'",
    ),
    "no scalar": (
        lambda: Finetune(loss=lambda outputs, labels, teacher: outputs["sure"], epochs=1),
        RefusedError,
        r"must return a scalar tensor, got a Tensor of shape \[\d+, 1\]",
    ),
    "fails": (
        lambda: Finetune(loss=lambda outputs, labels, teacher: outputs["none"], epochs=1),
        RefusedError,
        "failed: KeyError: 'none'",
    ),
    "constant": (
        lambda: Finetune(loss=lambda outputs, labels, teacher: outputs["sure"].sum() * 0, epochs=1),
        RefusedError,
        r"the loss does not move: its gradient is 0 for all \d+ trained weights",
    ),
    "weight of none": (
        lambda: Finetune(alpha=1.0, epochs=1, output_weights=(("classs", 2.0),)),
        OptionError,
        r"got 2 for 'classs' - at output_weights \(did you mean classes\?\)",
    ),
    "all frozen": (
        lambda: Finetune(alpha=1.0, epochs=1, freeze=("*",)),
        RefusedError,
        "there is nothing to train: all weights are frozen",
    ),
    "frozen none": (
        lambda: Finetune(alpha=1.0, epochs=1, freeze=("bodi",)),
        OptionError,
        r"got bodi - at freeze \(nearest: body",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_meant_is_one_line(name: str, tmp_path: Path) -> None:
    make, kind, message = BAD[name]
    samples = Samples({"x": X}, np.arange(len(X)) % 4)

    with pytest.raises(kind, match=message) as raised:
        apply_step(several(1), make(), Context(tmp_path, training=samples))
    assert "\n" not in str(raised.value)


def test_frozen_layers_stay_and_the_others_move(tmp_path: Path) -> None:
    samples = Samples({"x": X}, np.arange(len(X)) % 4)
    config = Finetune(epochs=1, held_out=0.0, freeze=("body", "a.bias"))

    made = apply_step(several(1), config, Context(tmp_path, training=samples))

    before, after = weights(several(1).graph), weights(made.graph)
    assert {one for one in before if not np.array_equal(before[one], after[one])} == {"a.weight"}


def test_frozen_layers_keep_their_integers(tmp_path: Path) -> None:
    samples = Samples({"x": X}, np.arange(len(X)) % 4)
    settings: dict[str, Any] = {"epochs": 1, "alpha": 1.0, "learning_rate": 1e-2, "held_out": 0.0}
    config = TrainQuantized(freeze=("body", "a.b*"), **settings)

    made = apply_step(several(1), config, Context(tmp_path, training=samples))

    before = weights(hasten.qat(several(1), samples, config=config).finish().graph)
    same = {name for name, one in weights(made.graph).items() if np.array_equal(one, before[name])}
    assert "body.weight_quantized" in same
    assert "a.weight_quantized" not in same


def weights(graph: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {one.name: onnx.numpy_helper.to_array(one) for one in graph.graph.initializer}
