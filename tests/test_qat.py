"""Training with quantization: what is trained is what every runtime then runs."""

from __future__ import annotations

import re
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

import hasten
from hasten.compress import Context, Finetune, FoldInput, StaticInt8, TrainQuantized, apply_step
from hasten.compress.quantization.rounding import PEAKS, quantize_weight
from hasten.compress.train_quantized import QuantizedTraining, prepare
from hasten.data import Preprocessing, Samples
from hasten.errors import RefusedError
from hasten.graph import Model, export_torch, parse_input
from hasten.runtimes import Execution, get_runtime
from hasten.train import GraphModule
from hasten.train.operators.fake_quantize import DOMAIN, WEIGHT, WEIGHT_SCALE
from int8_net import constants
from nets import conv_net, images
from onnx_models import model, run, value, weight
from training_nets import net, right, softmax_net, taught, unlabelled

RUNTIMES = ["onnxruntime", "openvino", "litert"]


def trained(config: TrainQuantized, steps: int = 10) -> QuantizedTraining:
    """Train as a user's own loop would, far enough that weights and ranges have moved."""
    training = hasten.qat(conv_net(), Samples({"x": images(32)}), config=config)
    x = torch.from_numpy(images(64))
    optimizer = torch.optim.AdamW(training.module.parameters(), 1e-2)
    training.module.train()
    for _ in range(steps):
        loss = (training.module(x) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    training.module.eval()
    return training


def answers(model: Model, runtime_name: str, folder: Path, x: np.ndarray) -> np.ndarray:
    runtime = get_runtime(runtime_name)
    session = runtime.open(runtime.lower(model, folder), Execution(batch=len(x)))
    try:
        return np.asarray(session.run({"x": x})["y"])
    finally:
        session.close()


def simulated(training: QuantizedTraining, x: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        found: np.ndarray = training.module(torch.from_numpy(x)).numpy()
    return found


CONFIGS = {
    "u8 learned": TrainQuantized(activations="u8"),
    "s8 observed": TrainQuantized(activations="s8", ranges="observed"),
    "s8 w7 learned": TrainQuantized(activations="s8", weights="w7"),
    "u8 w4 learned": TrainQuantized(weights="w4"),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_every_runtime_answers_as_the_trained_module_does(
    config: TrainQuantized, tmp_path: Path
) -> None:
    training = trained(config)
    x = np.concatenate([images(200) * scale for scale in (0.5, 1.0, 2.0)])
    want = simulated(training, x)
    # Two classes a hair apart may be told either way by a step of rounding.
    step = np.ptp(want) / 255
    ordered = np.sort(want, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > 1.5 * step

    made = training.finish()

    for name in RUNTIMES:
        have = answers(made, name, tmp_path, x)
        assert np.mean(have[clear].argmax(1) == want[clear].argmax(1)) >= 0.995, name
        assert np.mean(np.abs(have - want) > 0.5 * step) <= 0.03, name


@pytest.mark.parametrize("activations", ["u8", "s8"])
def test_an_untrained_module_computes_what_static_int8_does(
    activations: Any, tmp_path: Path
) -> None:
    x = images(32)
    context = Context(tmp_path, calibration=Samples({"x": x}))
    deployed = apply_step(net(), StaticInt8(activations=activations), context)
    training = prepare(net(), TrainQuantized(activations=activations), context)

    assert training.finish().graph == deployed.graph
    step = np.ptp(run(deployed, {"x": x})["y"]) / 255
    difference = np.abs(simulated(training, x) - run(deployed, {"x": x})["y"])
    assert np.mean(difference > 0.5 * step) <= 0.01


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**16), weights=st.sampled_from(["w8", "w7", "w4"]), axis=st.integers(0, 2)
)
def test_a_fake_quantized_weight_is_what_its_integers_stand_for(
    seed: int, weights: Any, axis: int
) -> None:
    values = np.random.default_rng(seed).normal(size=(3, 4, 5)).astype(np.float32)
    values[0, 0] = 0
    integers, scale = quantize_weight(values, axis, weights)
    along = scale.reshape([-1 if at == axis else 1 for at in range(3)])

    proto = model(
        [
            helper.make_node(
                WEIGHT_SCALE, ["w"], ["s"], domain=DOMAIN, axis=axis, peak=PEAKS[weights]
            ),
            helper.make_node(WEIGHT, ["w", "s"], ["y", "i"], domain=DOMAIN, axis=axis),
        ],
        [],
        [value("y", [3, 4, 5])],
        [numpy_helper.from_array(values, "w")],
        domains=[DOMAIN],
    )
    found = GraphModule(proto).constants(["y", "i", "s"])

    np.testing.assert_allclose(found["y"], integers * along, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(found["i"], integers)
    np.testing.assert_allclose(found["s"], scale, rtol=1e-6)


@pytest.mark.parametrize("ranges", ["learned", "observed"])
def test_training_moves_the_ranges_and_zero_stays_a_level(ranges: Any) -> None:
    config = TrainQuantized(ranges=ranges)
    before = constants(trained(config, steps=0).finish())

    after = constants(trained(config).finish())

    scales = [name for name in before if name.endswith("_scale") and before[name].ndim == 0]
    assert all(before[name] != after[name] for name in scales)
    assert {str(after[name.replace("_scale", "_zero_point")].dtype) for name in scales} == {"uint8"}
    assert after["r1_zero_point"] == 0


def test_a_range_learns_to_be_narrower_where_few_values_need_it() -> None:
    x = np.concatenate([images(63), 100 * images(1)])
    training = hasten.qat(conv_net(), Samples({"x": x}))
    before = constants(training.finish())["x_scale"]
    optimizer = torch.optim.AdamW(training.module.parameters(), 5e-2)
    target = torch.from_numpy(run(net(), {"x": images(63)})["y"])

    for _ in range(30):
        loss = (training.module.train()(torch.from_numpy(images(63))) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert constants(training.finish())["x_scale"] < 0.8 * before


class Normed(nn.Module):
    """A network with batch norms, as users train it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 8, 3)
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.body(x).mean((2, 3)))
        return found


def joined() -> onnx.ModelProto:
    """Two branches that end in a ReLU6, joined: all three have one range."""
    return model(
        [
            helper.make_node("Conv", ["x", "wa"], ["ca"]),
            helper.make_node("Clip", ["ca", "zero", "six"], ["a"]),
            helper.make_node("Conv", ["x", "wb"], ["cb"]),
            helper.make_node("Clip", ["cb", "zero", "six"], ["b"]),
            helper.make_node("Concat", ["a", "b"], ["both"], axis=1),
            helper.make_node("GlobalAveragePool", ["both"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("Gemm", ["flat", "wc"], ["y"]),
        ],
        [value("x", ["n", 3, 12, 12])],
        [value("y", ["n", 5])],
        [
            weight("wa", 4, 3, 3, 3, seed=1),
            weight("wb", 4, 3, 3, 3, seed=2),
            weight("wc", 8, 5, seed=3),
            numpy_helper.from_array(np.array(0, np.float32), "zero"),
            numpy_helper.from_array(np.array(6, np.float32), "six"),
        ],
    )


@pytest.mark.parametrize("ranges", ["learned", "observed"])
def test_tensors_that_share_a_range_share_it_after_training(ranges: Any) -> None:
    training = hasten.qat(
        joined(), Samples({"x": images(32)}), config=TrainQuantized(ranges=ranges)
    )
    optimizer = torch.optim.AdamW(training.module.parameters(), 1e-2)
    for _ in range(5):
        loss = training.module.train()(torch.from_numpy(images(32))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    found = constants(training.finish())

    assert found["a_scale"] == found["b_scale"] == found["both_scale"]
    if ranges == "learned":
        assert found["a_scale"] != pytest.approx(6 / 255, rel=1e-4)


def test_a_module_is_trained_by_the_users_own_loop(tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(images(32))
    training = hasten.qat(Normed(), {"x": images(32)}, example=x[:1], scratch=tmp_path)
    optimizer = torch.optim.AdamW(training.module.parameters(), 1e-3)

    training.module.train()
    training.module(x).square().mean().backward()
    optimizer.step()
    made = training.finish()

    kinds = {node.op_type for node in made.graph.graph.node}
    assert "BatchNormalization" not in kinds
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    training.module.eval()
    np.testing.assert_allclose(
        run(made, {"x": x.numpy()})[made.signature.outputs[0].name],
        simulated(training, x.numpy()),
        atol=0.02,
    )


def test_the_step_trains_without_labels_towards_the_float_model(tmp_path: Path) -> None:
    samples = unlabelled(taught())
    config = TrainQuantized(epochs=4, batch=16, learning_rate=3e-5)

    context = Context(tmp_path, training=samples)
    made = apply_step(net(), config, context)

    assert [step.step for step in made.steps] == ["train_quantized"]
    assert [re.sub(r"[\d.]+%?", "#", note) for note in context.notes] == [
        "training with quantization: compared by squared difference of y",
        "training with quantization: # epochs; epoch # was best, # on the samples held out",
        "training with quantization: the module in training and the int# graph of it agree on # of"
        " # samples",
    ]
    x = samples.arrays
    agreed = run(made, x)["y"].argmax(1) == run(net(), x)["y"].argmax(1)
    assert agreed.mean() >= 0.95


def test_the_step_trains_on_labels_alone(tmp_path: Path) -> None:
    context = Context(tmp_path, training=taught())
    learnt = apply_step(net(), Finetune(epochs=4, batch=16, learning_rate=1e-2), context)
    config = TrainQuantized(epochs=2, batch=16, learning_rate=1e-3, alpha=1.0)

    made = apply_step(learnt, config, context)

    assert right(made, taught()) >= 0.95
    assert [step.step for step in made.steps] == ["finetune", "train_quantized"]


@pytest.mark.parametrize("ranges", ["learned", "observed"])
def test_pixels_that_are_folded_keep_the_range_they_are_known_to_have(
    ranges: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 12, 12, 3), np.uint8)
    preprocessing = {"x": Preprocessing((12, 12), (0.5,) * 3, (0.25,) * 3)}
    samples = Samples({"x": pixels}, None, preprocessing)
    context = Context(tmp_path, calibration=samples, training=samples, preprocessing=preprocessing)
    folded = apply_step(net(), FoldInput(), context)
    before = constants(apply_step(folded, StaticInt8(), context))
    config = TrainQuantized(epochs=2, batch=16, learning_rate=1e-2, ranges=ranges, held_out=0.0)

    made = apply_step(folded, config, context)

    after = constants(made)
    assert after["x_normalised_scale"] == before["x_normalised_scale"]
    assert after["r1_scale"] != before["r1_scale"]


def test_batch_norms_that_are_still_there_are_folded(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = [parse_input("x=float32[n,3,12,12]")]
    source = export_torch(Normed(), shape, scratch=tmp_path, keep_batch_norms=True)
    context = Context(tmp_path, training=Samples({"x": images(32)}))
    assert any(node.op_type == "BatchNormalization" for node in source.graph.graph.node)

    made = apply_step(source, TrainQuantized(epochs=1, batch=16), context)

    assert all(node.op_type != "BatchNormalization" for node in made.graph.graph.node)


def test_a_softmax_at_the_end_stays_there(tmp_path: Path) -> None:
    config = TrainQuantized(epochs=1, batch=16)

    made = apply_step(softmax_net(), config, Context(tmp_path, training=taught()))

    outputs = run(made, taught(8).arrays)["p"]
    np.testing.assert_allclose(outputs.sum(1), 1.0, atol=0.05)


def test_a_quantized_model_is_refused(tmp_path: Path) -> None:
    context = Context(tmp_path, calibration=taught(), training=taught())
    quantized = apply_step(net(), StaticInt8(), context)

    with pytest.raises(RefusedError, match="begins with a float model, and this one is quantized"):
        apply_step(quantized, TrainQuantized(), context)
