"""Training on a GPU, where there is one."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from hasten.compress import Context, Distill, Finetune, TrainQuantized, apply_step
from hasten.errors import OptionError
from onnx_models import run
from training_nets import net, right, student, taught, unlabelled

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
LEARN = Finetune(epochs=6, batch=16, learning_rate=1e-2, device="cuda", held_out=0.25)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_here_is_an_error_before_training(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Expected a device that is here: cpu, got cuda"):
        apply_step(net(), LEARN, Context(tmp_path, training=taught()))


@needs_gpu
def test_fine_tuning_on_a_gpu_comes_to_what_the_cpu_does(tmp_path: Path) -> None:
    context = Context(tmp_path, training=taught())
    one_epoch = msgspec.structs.replace(LEARN, epochs=1)
    on_gpu = apply_step(net(), one_epoch, context)
    on_cpu = apply_step(net(), msgspec.structs.replace(one_epoch, device="cpu"), context)

    x = taught(16).arrays
    np.testing.assert_allclose(run(on_gpu, x)["y"], run(on_cpu, x)["y"], rtol=0.02, atol=0.02)
    assert right(apply_step(net(), LEARN, context), taught()) > 0.9


@needs_gpu
def test_training_on_a_gpu_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    kept = Context(tmp_path, training=taught(), checkpoints=tmp_path)
    apply_step(net(), LEARN, kept)

    apply_step(net(), LEARN, kept)

    assert "going on after epoch 6" in kept.notes[-1]


@needs_gpu
@pytest.mark.parametrize("ranges", ["learned", "observed"])
def test_a_module_trained_for_int8_on_a_gpu_is_what_is_deployed(
    ranges: str, tmp_path: Path
) -> None:
    settings = {"epochs": 2, "batch": 16, "device": "cuda", "ranges": ranges, "seed": 1}
    config = msgspec.convert(settings, TrainQuantized)
    context = Context(tmp_path, training=unlabelled(taught()))

    made = apply_step(net(), config, context)

    assert [step.step for step in made.steps] == ["train_quantized"]
    assert "agree on 100.00%" in context.notes[-1] or "agree on 99" in context.notes[-1]


@needs_gpu
def test_a_student_learns_hints_and_answers_on_a_gpu(tmp_path: Path) -> None:
    config = Distill(epochs=3, batch=16, device="cuda", hints=(("r", "r2"),), method="dkd")

    made = apply_step(student(), config, Context(tmp_path, training=taught(), teacher=net()))

    assert [step.step for step in made.steps] == ["distill"]
