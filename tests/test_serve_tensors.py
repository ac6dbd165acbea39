"""Tensors of every kind through a real server, both ways, in JSON and in binary."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from inference_v2 import DATATYPES, infer, jsonned, outputs, path_of, tensor, values
from served import Client, Served, serving
from served_models import ALONE, entry, identity, put_onnx, scaled, sums, two_sizes

X = np.array([[1, 2, 3, 4], [-5, 6.5, 0, 8]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tensors")
    models = folder / "models"
    for datatype in DATATYPES:
        put_onnx(models / f"same-{datatype}.onnx", identity(datatype))
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "sums.onnx", sums())
    put_onnx(models / "free.onnx", scaled(3.0, ("n", "m")))
    put_onnx(models / "wide.onnx", scaled(2.0, ("n", 40_000)))
    put_onnx(models / "places.onnx", two_sizes())
    entry(models / "alone", scaled(), ALONE)
    with serving(models, folder=folder) as served:
        yield served


@pytest.mark.parametrize("datatype", DATATYPES)
def test_binary_tensors_of_every_datatype_come_back(client: Client, datatype: str) -> None:
    x = values(datatype)
    y = outputs(client.raw(infer(f"same-{datatype}", {"x": x})))["y"]
    assert y.dtype == x.dtype
    assert y.tolist() == x.tolist()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_json_tensors_of_every_datatype_come_back(client: Client, datatype: str) -> None:
    x = values(datatype)
    y = outputs(client.post(path_of(f"same-{datatype}"), jsonned({"x": x})))["y"]
    assert y.dtype == x.dtype
    assert y.tolist() == x.tolist()


@pytest.mark.parametrize("datatype", DATATYPES)
def test_more_rows_than_any_batch_that_was_warmed_up_are_answered(
    client: Client, datatype: str
) -> None:
    x = np.concatenate([values(datatype)] * 50)
    y = outputs(client.raw(infer(f"same-{datatype}", {"x": x})))["y"]
    assert y.tolist() == x.tolist()


def test_json_data_may_be_nested_as_the_shape_is(client: Client) -> None:
    document = {"inputs": [tensor("x", X, data=X.tolist())]}
    answer = client.post(path_of("scaled"), json.dumps(document, indent=30).encode())
    assert np.array_equal(outputs(answer)["y"], 2 * X)


def test_one_input_may_be_json_and_the_other_binary(client: Client) -> None:
    a, b = X[:, :2], X[:, 2:]
    size = {"binary_data_size": b.nbytes}
    inputs = [tensor("b", b, parameters=size), tensor("a", a, data=a.ravel().tolist())]
    asked = [{"name": "difference", "parameters": {"binary_data": True}}, {"name": "sum"}]
    head = json.dumps({"inputs": inputs, "outputs": asked}).encode()
    length = len(head)
    answer = client.post(
        path_of("sums"), head + b.tobytes(), Inference_Header_Content_Length=length
    )
    found = outputs(answer)
    assert list(found) == ["difference", "sum"]
    assert np.array_equal(found["sum"], a + b)
    assert np.array_equal(found["difference"], a - b)


def test_inputs_may_come_in_any_order(client: Client) -> None:
    a, b = X[:, :2], X[:, 2:]
    assert np.array_equal(outputs(client.raw(infer("sums", {"b": b, "a": a})))["sum"], a + b)


def test_only_what_is_asked_for_is_answered(client: Client) -> None:
    a = X[:, :2]
    answer = client.post(path_of("sums"), jsonned({"a": a, "b": a}, outputs=[{"name": "sum"}]))
    assert list(outputs(answer)) == ["sum"]


def test_an_output_overrides_binary_data_output(client: Client) -> None:
    asked = [{"name": "y", "parameters": {"binary_data": False}}]
    answer = client.raw(infer("scaled", {"x": X}, outputs=asked))
    assert answer.document["outputs"][0]["data"] == (2 * X).ravel().tolist()


def test_the_id_comes_back(client: Client) -> None:
    for identity_of in ("", "a", 'ü"\\'):
        answer = client.post(path_of("scaled"), jsonned({"x": X}, id=identity_of))
        assert answer.document.get("id", "") == identity_of
        assert answer.document["model_name"] == "scaled"
        assert answer.document["model_version"] == "1"


def test_the_same_head_with_other_bytes_has_another_answer(client: Client) -> None:
    for factor in range(4):
        found = outputs(client.raw(infer("scaled", {"x": X * factor})))
        assert np.array_equal(found["y"], 2 * factor * X)


def test_shapes_that_are_free_are_taken_as_they_come(client: Client) -> None:
    for shape in [(1, 1), (2, 7), (3, 0), (1, 1000)]:
        x = np.ones(shape, np.float32)
        assert np.array_equal(outputs(client.raw(infer("free", {"x": x})))["y"], 3 * x)


def test_a_model_without_batches_takes_its_first_axis_as_it_comes(client: Client) -> None:
    for rows in (1, 5, 2, 0):
        x = np.ones((rows, 4), np.float32)
        assert np.array_equal(outputs(client.raw(infer("alone", {"x": x})))["y"], 2 * x)


def test_outputs_may_have_another_size_each_time(client: Client) -> None:
    for count in (3, 1, 0, 4):
        x = np.array([1] * count + [0] * (4 - count), np.float32)
        y = outputs(client.raw(infer("places", {"x": x})))["y"]
        assert y.tolist() == [list(range(count))]


def test_large_tensors_come_back_whole(client: Client) -> None:
    x = np.random.default_rng(0).normal(size=(7, 40_000)).astype(np.float32)
    for _ in range(2):
        assert np.array_equal(outputs(client.raw(infer("wide", {"x": x})))["y"], 2 * x)
