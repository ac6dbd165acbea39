"""Sequences behind a real server: each is padded to a bucket and answered at its own length."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from inference_v2 import infer, jsonned, outputs, path_of
from onnx_models import model, value
from served import Client, Served, executions, serving, side_by_side
from served_models import put_bundle, scaled


def masked_mean() -> onnx.ModelProto:
    """x[n,length] and mask to doubled[n,length], and mean[n] over what the mask has."""
    nodes = [
        helper.make_node("Cast", ["mask"], ["m"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["x", "x"], ["doubled"]),
        helper.make_node("Mul", ["x", "m"], ["real"]),
        helper.make_node("ReduceSum", ["real", "axis"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["m", "axis"], ["count"], keepdims=0),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
    ]
    axis = numpy_helper.from_array(np.array([1], np.int64), "axis")
    inputs = [value("x", ["n", "length"]), value("mask", ["n", "length"], TensorProto.INT64)]
    outputs_of = [value("doubled", ["n", "length"]), value("mean", ["n"])]
    return model(nodes, inputs, outputs_of, [axis])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("lengths")
    models = folder / "models"
    buckets = {"lengths": [4, 16], "mask": "mask", "pad_value": 7}
    put_bundle(
        models / "lengths",
        masked_mean(),
        serving={"max_batch_size": 8, "inline": False, "length_buckets": buckets},
    )
    with serving(models, folder=folder) as served:
        yield served


def sequence(length: int, count: int = 1) -> np.ndarray:
    return np.random.default_rng(length).normal(size=(count, length)).astype(np.float32)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 15, 16])
@pytest.mark.parametrize("count", [1, 3])
def test_a_sequence_is_answered_at_its_own_length(client: Client, length: int, count: int) -> None:
    x = sequence(length, count)
    found = outputs(client.raw(infer("lengths", {"x": x})))
    assert np.array_equal(found["doubled"], 2 * x)
    assert np.allclose(found["mean"], x.mean(axis=1), atol=1e-6)


def test_a_mask_is_made_for_each_of_many_requests_in_json(client: Client) -> None:
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(1, 3)).astype(np.float32)
        found = outputs(client.post(path_of("lengths"), jsonned({"x": x})))
        assert np.allclose(found["mean"], x.mean(axis=1), atol=1e-6)


def test_a_mask_of_the_client_is_padded_with_zeros(client: Client) -> None:
    x = sequence(3)
    mask = np.array([[1, 0, 1]], np.int64)
    found = outputs(client.raw(infer("lengths", {"mask": mask, "x": x})))
    assert np.allclose(found["mean"], (x[:, 0] + x[:, 2]) / 2)
    body = jsonned({"x": x, "mask": mask})
    assert np.allclose(outputs(client.post(path_of("lengths"), body))["mean"], found["mean"])


def test_sequences_of_one_bucket_share_batches(server: Served) -> None:
    before = executions(server, "lengths")
    inputs = [sequence(1 + at % 4) for at in range(40)]
    answers = side_by_side(server, [infer("lengths", {"x": x}) for x in inputs])
    for x, answer in zip(inputs, answers, strict=True):
        assert np.array_equal(outputs(answer)["doubled"], 2 * x)
    assert executions(server, "lengths") - before <= 40


def test_a_sequence_longer_than_the_last_bucket_is_refused(client: Client) -> None:
    answer = client.raw(infer("lengths", {"x": sequence(17)}))
    assert answer.status == 400
    assert "at most 16, got 17" in answer.complaint


def test_a_mask_of_another_length_is_refused(client: Client) -> None:
    mask = np.ones((1, 2), np.int64)
    answer = client.raw(infer("lengths", {"x": sequence(3), "mask": mask}))
    assert answer.status == 400
    assert "one length of x, mask, got 2, 3" in answer.complaint


def test_an_input_that_is_no_mask_may_not_be_left_out(client: Client) -> None:
    answer = client.raw(infer("lengths", {"mask": np.ones((1, 2), np.int64)}))
    assert answer.status == 400
    assert "x is missing" in answer.complaint


def test_lengths_without_a_mask_are_refused_at_the_start(tmp_path: Path) -> None:
    settings = {"length_buckets": {"lengths": [4], "mask": "mask"}}
    put_bundle(tmp_path / "net", scaled(), serving={"max_batch_size": 8})
    (tmp_path / "c.json").write_text(json.dumps(settings))
    with (
        pytest.raises(AssertionError, match="mask 'mask'"),
        serving("net", "--config", "c.json", folder=tmp_path),
    ):
        pass
