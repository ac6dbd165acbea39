"""Extensions of the V2 protocol over a real socket: a body that is one tensor, classification."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inference_v2 import jsonned, outputs, path_of, values
from served import Answer, Client, Served, serving
from served_models import identity, put_labelled, put_onnx, scaled, sums

X = np.array([[1, 2, 3, 4], [-5, 6.5, 0, 8]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("extensions")
    models = folder / "models"
    for datatype in ("BYTES", "BOOL", "INT64"):
        put_onnx(models / f"same-{datatype}.onnx", identity(datatype))
    put_onnx(models / "text.onnx", identity("BYTES", ("n", 1)))
    put_onnx(models / "lone-text.onnx", identity("BYTES", (1,)))
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "sums.onnx", sums())
    put_onnx(models / "free.onnx", scaled(3.0, ("n", "m")))
    put_labelled(models / "classes")
    with serving(models, folder=folder) as served:
        yield served


# A body that is one tensor


def raw(client: Client, model: str, body: bytes) -> Answer:
    return client.post(path_of(model), body, Inference_Header_Content_Length=0)


def test_a_header_of_no_length_makes_the_body_the_only_input(client: Client) -> None:
    answer = raw(client, "scaled", X.tobytes())
    assert int(answer.headers["inference-header-content-length"]) > 0
    assert np.array_equal(outputs(answer)["y"], 2 * X)


def test_a_raw_body_fills_the_one_free_dimension_behind_the_batch(client: Client) -> None:
    x = np.arange(7, dtype=np.float32)
    assert np.array_equal(outputs(raw(client, "free", x.tobytes()))["y"], 3 * x[None])


@pytest.mark.parametrize("text", ["", "abc", "\x03\x00\x00\x00abc", "käse", "long" * 50_000])
@pytest.mark.parametrize("model", ["text", "lone-text"])
def test_a_raw_body_of_bytes_is_one_element_without_its_length(
    client: Client, model: str, text: str
) -> None:
    y = outputs(raw(client, model, text.encode()))["y"]
    assert y.ravel().tolist() == [text]


def test_a_raw_body_is_refused_where_there_are_many_elements_of_any_size(client: Client) -> None:
    answer = raw(client, "same-BYTES", b"abc")
    assert answer.status == 400
    assert "one element" in answer.complaint


def test_a_raw_body_of_bytes_that_are_no_text_is_refused(client: Client) -> None:
    answer = raw(client, "text", b"\xff")
    assert answer.status == 400
    assert "UTF-8" in answer.complaint


@pytest.mark.parametrize("size", [0, 1, 15, 17])
def test_a_raw_body_of_no_whole_rows_is_refused(client: Client, size: int) -> None:
    answer = raw(client, "scaled", bytes(size))
    assert answer.status == 400
    assert "16 bytes" in answer.complaint


def test_a_raw_body_is_refused_where_there_are_two_inputs(client: Client) -> None:
    answer = raw(client, "sums", bytes(16))
    assert answer.status == 400
    assert "one input" in answer.complaint


# Classification


def classes(client: Client, model: str, count: int, *, is_binary: bool) -> Any:
    asked = [{"name": "y", "parameters": {"classification": count, "binary_data": is_binary}}]
    return outputs(client.post(path_of(model), jsonned({"x": X}, outputs=asked)))["y"].tolist()


@pytest.mark.parametrize("is_binary", [False, True])
def test_classes_are_the_highest_values_with_their_places(
    client: Client, *, is_binary: bool
) -> None:
    found = classes(client, "scaled", 2, is_binary=is_binary)
    assert found == [["8.000000:3", "6.000000:2"], ["16.000000:3", "13.000000:1"]]


def test_classes_have_the_names_of_the_label_file(client: Client) -> None:
    found = classes(client, "classes", 9, is_binary=True)
    assert found[0] == ["8.000000:3", "6.000000:2:fox", "4.000000:1:dog", "2.000000:0:cat"]


def test_classes_of_whole_numbers_are_whole_numbers(client: Client) -> None:
    asked = [{"name": "y", "parameters": {"classification": 1}}]
    body = jsonned({"x": np.array([[3, -1, 9]], np.int64)}, outputs=asked)
    assert outputs(client.post(path_of("same-INT64"), body))["y"].tolist() == [["9:2"]]


@pytest.mark.parametrize("datatype", ["BYTES", "BOOL"])
def test_what_has_no_highest_value_is_not_classified(client: Client, datatype: str) -> None:
    asked = [{"name": "y", "parameters": {"classification": 1}}]
    body = jsonned({"x": values(datatype)}, outputs=asked)
    answer = client.post(path_of(f"same-{datatype}"), body)
    assert answer.status == 400
    assert "classification" in answer.complaint
