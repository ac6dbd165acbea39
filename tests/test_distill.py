"""Distillation: from a graph, a module and a served model, with labels and without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from hasten.compress import Context, Distill, Finetune, apply_step
from hasten.errors import ModelError, OptionError, RefusedError, RuntimeFailureError
from hasten.graph import Model, model_from_proto
from hasten.train import GraphModule
from nets import conv_net
from onnx_models import linear, model, run, value
from served import serving
from training_nets import net, right, softmax_net, student, taught, unlabelled

QUICK: dict[str, Any] = {"epochs": 20, "batch": 16, "learning_rate": 5e-2, "held_out": 0.0}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A network that knows its labels."""
    folder = tmp_path_factory.mktemp("teacher")
    config = Finetune(epochs=6, batch=16, learning_rate=1e-2)
    return apply_step(net(), config, Context(folder, training=taught()))


def agreement(one: Model, other: Model) -> float:
    x = taught(64).arrays
    return float((run(one, x)["y"].argmax(1) == run(other, x)["y"].argmax(1)).mean())


@pytest.mark.parametrize("method", ["kl", "dkd", "match"])
def test_a_student_learns_from_a_teacher_without_labels(
    method: Any, teacher: Model, tmp_path: Path
) -> None:
    given = Context(tmp_path, training=unlabelled(taught()), teacher=teacher)

    made = apply_step(student(), Distill(method=method, other_weight=1.0, **QUICK), given)

    assert agreement(made, teacher) >= 0.7 > agreement(student(), teacher)
    assert [step.step for step in made.steps] == ["distill"]


def test_labels_and_views_are_shared_by_teacher_and_student(teacher: Model, tmp_path: Path) -> None:
    config = Distill(alpha=0.5, augment=("flip_horizontal", "rotate_90", "shift"), **QUICK)

    made = apply_step(student(), config, Context(tmp_path, training=taught(), teacher=teacher))

    assert right(made, taught()) >= 0.8


def test_features_of_the_teacher_are_hints(teacher: Model, tmp_path: Path) -> None:
    config = Distill(hints=(("r", "r2"),), hint_weight=0.1, **QUICK)
    given = Context(tmp_path, training=unlabelled(taught()), teacher=teacher)

    made = apply_step(student(), config, given)

    assert agreement(made, teacher) >= 0.9


def test_hints_that_the_teacher_has_not_are_named(teacher: Model, tmp_path: Path) -> None:
    config = Distill(hints=(("r", "nowhere"),), **QUICK)

    with pytest.raises(ModelError, match="Expected a tensor 'nowhere', got none - at teacher"):
        apply_step(student(), config, Context(tmp_path, training=taught(), teacher=teacher))


class Wrapped(nn.Module):
    """A teacher as a user's module: no names, probabilities in place of scores."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.inner = GraphModule(model.graph)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.inner(x)
        return found


def test_a_module_can_be_the_teacher(teacher: Model, tmp_path: Path) -> None:
    given = Context(tmp_path, training=unlabelled(taught()), teacher=Wrapped(teacher))

    assert agreement(apply_step(student(), Distill(**QUICK), given), teacher) >= 0.9


def test_a_served_model_can_be_the_teacher(teacher: Model, tmp_path: Path) -> None:
    onnx.save(teacher.graph, tmp_path / "net.onnx")
    with serving(tmp_path / "net.onnx", folder=tmp_path) as server:
        url = f"http://{server.url}/v2/models/net"
        given = Context(tmp_path, training=unlabelled(taught()), teacher=url)

        made = apply_step(student(), Distill(**QUICK), given)

    assert agreement(made, teacher) >= 0.9


def test_a_teacher_of_probabilities_teaches_a_student_that_ends_in_a_softmax(
    tmp_path: Path,
) -> None:
    given = Context(tmp_path, training=unlabelled(taught()), teacher=softmax_net())

    made = apply_step(softmax_net(), Distill(epochs=1, batch=16), given)

    x = taught(16).arrays
    np.testing.assert_allclose(run(made, x)["p"], run(softmax_net(), x)["p"], atol=0.05)


def test_a_teacher_of_other_inputs_is_an_error_before_training(tmp_path: Path) -> None:
    given = Context(tmp_path, training=taught(), teacher=model_from_proto(linear()))

    with pytest.raises(ModelError, match=r"Expected a teacher that takes x: float32\[\?,3,12,12\]"):
        apply_step(student(), Distill(**QUICK), given)


def test_a_teacher_of_other_classes_is_an_error_before_training(tmp_path: Path) -> None:
    proto = model(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("ReduceSum", ["f"], ["y"]),
        ],
        [value("x", ["n", 3, 12, 12])],
        [value("y", [1, 1])],
    )
    given = Context(tmp_path, training=taught(), teacher=model_from_proto(proto))

    with pytest.raises(ModelError, match=r"Expected \[\d+, 10\] for output 'y', as the student's"):
        apply_step(student(), Distill(**QUICK), given)


def test_distillation_without_a_teacher_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"^distillation needs a teacher: give --teacher$"):
        apply_step(student(), Distill(), Context(tmp_path, training=taught()))


@pytest.mark.parametrize(
    ("url", "error", "message"),
    [
        ("http://127.0.0.1:9/v2/models/net", RuntimeFailureError, "could not be asked"),
        ("http://127.0.0.1:9/net", OptionError, "Expected a URL such as http"),
        ("ftp://127.0.0.1/v2/models/net", OptionError, "the URL of a served model"),
    ],
)
def test_a_teacher_that_cannot_be_reached_is_an_error_before_training(
    url: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        apply_step(student(), Distill(), Context(tmp_path, training=taught(), teacher=url))


def test_a_teacher_of_a_fixed_batch_is_asked_as_often_as_it_takes(tmp_path: Path) -> None:
    proto = onnx.ModelProto()
    proto.CopyFrom(conv_net())
    for edge in (*proto.graph.input, *proto.graph.output):
        edge.type.tensor_type.shape.dim[0].dim_value = 5
    one_epoch = Distill(epochs=1, batch=16, learning_rate=1e-3)
    samples = unlabelled(taught())

    fixed = Context(tmp_path, training=samples, teacher=model_from_proto(proto))
    free = Context(tmp_path, training=samples, teacher=net())
    made = [run(apply_step(student(), one_epoch, one), taught(8).arrays) for one in (fixed, free)]

    np.testing.assert_allclose(made[0]["y"], made[1]["y"], atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "where"),
    [({"alpha": -0.1}, "alpha"), ({"temperature": 0.0}, "temperature")],
)
def test_settings_that_cannot_be_meant_are_refused(settings: dict[str, Any], where: str) -> None:
    with pytest.raises(OptionError, match=f"at {where}$"):
        Distill(**settings)
