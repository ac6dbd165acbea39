from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from hasten.compress import Context, Finetune, apply_step
from hasten.errors import DataError, OptionError, RefusedError
from hasten.graph import AppliedStep, Model, model_from_proto
from onnx_models import branching
from training_nets import net, right, softmax_net, taught, unlabelled

QUICK = Finetune(epochs=4, batch=16, learning_rate=1e-2)


def test_fine_tuning_learns_the_labels_and_leaves_a_record(tmp_path: Path) -> None:
    samples = taught()
    before = right(net(), samples)

    tuned = apply_step(net(), QUICK, Context(tmp_path, training=samples))

    assert right(tuned, samples) > max(before, 0.9)
    assert [step.step for step in tuned.steps] == ["finetune"]
    assert tuned.signature == net().signature


def test_fine_tuning_without_samples_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"^fine-tuning needs training samples: give --train$"):
        apply_step(net(), QUICK, Context(tmp_path))


def test_fine_tuning_without_labels_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected labels to train with, got none"):
        apply_step(net(), QUICK, Context(tmp_path, training=unlabelled(taught())))


def test_a_part_of_the_loss_may_be_a_teachers(tmp_path: Path) -> None:
    half = Finetune(epochs=2, batch=16, learning_rate=1e-2, alpha=0.5)
    with pytest.raises(RefusedError, match="fine-tuning needs a teacher: give --teacher"):
        apply_step(net(), half, Context(tmp_path, training=taught()))

    tuned = apply_step(net(), half, Context(tmp_path, training=taught(), teacher=net()))

    assert [step.step for step in tuned.steps] == ["finetune"]


def test_a_model_that_ends_in_a_softmax_is_trained_by_what_goes_into_it(tmp_path: Path) -> None:
    samples = taught()

    tuned = apply_step(softmax_net(), QUICK, Context(tmp_path, training=samples))

    assert right(tuned, samples) > 0.9
    assert tuned.graph.graph.output[0].name == "p"


def test_operators_that_cannot_be_trained_are_named(tmp_path: Path) -> None:
    model = model_from_proto(branching())
    with pytest.raises(RefusedError, match=r"cannot be trained: operator If \(node choose\)"):
        apply_step(model, QUICK, Context(tmp_path, training=taught()))


def test_zeros_that_a_step_has_made_stay_zeros(tmp_path: Path) -> None:
    sparse = _sparse(net())

    tuned = apply_step(sparse, QUICK, Context(tmp_path, training=taught()))

    assert _zeros(tuned) == _zeros(sparse)
    assert _zeros(apply_step(_forgotten(sparse), QUICK, Context(tmp_path, training=taught()))) == 0


def test_checkpoints_of_a_step_have_a_folder_of_their_own(tmp_path: Path) -> None:
    given = Context(tmp_path, training=taught(), checkpoints=tmp_path / "kept")

    apply_step(net(), QUICK, given)

    assert (tmp_path / "kept" / "finetune" / "training.pt").is_file()


def test_a_share_of_labels_outside_its_range_is_one_clear_line() -> None:
    with pytest.raises(OptionError, match=r"^Expected a share from 0 to 1, got 1.5 - at alpha$"):
        Finetune(alpha=1.5)


def _sparse(model: Model) -> Model:
    """Every other weight of the first convolution is zero, as pruning would leave it."""
    proto = type(model.graph)()
    proto.CopyFrom(model.graph)
    (tensor,) = [each for each in proto.graph.initializer if each.name == "w1"]
    values = numpy_helper.to_array(tensor).copy()
    values.reshape(-1)[::2] = 0
    tensor.CopyFrom(numpy_helper.from_array(values, "w1"))
    return replace(model, content=proto, steps=(AppliedStep("sparsify"),))


def _forgotten(model: Model) -> Model:
    return replace(model, steps=())


def _zeros(model: Model) -> int:
    (tensor,) = [each for each in model.graph.graph.initializer if each.name == "w1"]
    return int(np.sum(numpy_helper.to_array(tensor) == 0))
