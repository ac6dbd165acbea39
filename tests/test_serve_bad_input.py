"""What is wrong is answered with the right status and one sentence, and harms nobody else."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from inference_v2 import binary, infer, jsonned, outputs, path_of, tensor
from served import Answer, Client, Served, serving
from served_models import entry, identity, put_null, put_onnx, scaled, sums
from unharmed import good, unharmed

X = np.array([[1, 2, 3, 4]], np.float32)
ALONE = """max_batch_size: 0
input [{ name: "x", data_type: TYPE_FP32, dims: [ -1, -1 ] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [ -1, -1 ] }]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bad")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "sums.onnx", sums())
    put_onnx(models / "free.onnx", scaled(2.0, ("n", "m", "k")))
    for datatype in ("BYTES", "BOOL", "UINT8", "INT64", "FP16", "FP32"):
        put_onnx(models / f"same-{datatype}.onnx", identity(datatype))
    entry(models / "alone", scaled(2.0, ("n", "m")), ALONE)
    entry(models / "small", scaled(), "max_batch_size: 4")
    put_null(models / "nan", fail="nan")
    with serving(models, folder=folder) as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    """A connection that must be as good as new after the test, like any other."""
    with unharmed(server) as connected:
        yield connected
        good(connected)


def refused(answer: Answer, status: int = 400) -> str:
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    return answer.complaint


def ask(client: Client, document: Any, model: str = "scaled", blob: bytes = b"") -> Answer:
    head = document if isinstance(document, bytes) else json.dumps(document).encode()
    headers = {"Inference_Header_Content_Length": len(head)} if blob else {}
    return client.post(path_of(model), head + blob, **headers)


def changed(**changes: object) -> dict[str, Any]:
    """A request with one input, otherwise than it should be."""
    return {"inputs": [tensor("x", X, data=X.ravel().tolist()) | changes]}


# Names


def test_an_unknown_model_is_404(client: Client) -> None:
    assert "'nothing'" in refused(ask(client, changed(), "nothing"), 404)
    assert "'nothing'" in refused(client.get("/v2/models/nothing"), 404)


@pytest.mark.parametrize("version", ["2", "0", "-1", "x", "1.0", "9" * 5000, "%D9%A1%00"])
def test_an_unknown_version_is_404(client: Client, version: str) -> None:
    path = f"/v2/models/scaled/versions/{version}"
    refused(client.post(f"{path}/infer", jsonned({"x": X})), 404)
    refused(client.get(f"{path}/ready"), 404)


@pytest.mark.parametrize(
    "path",
    [
        "/v3",
        "/v2/models",
        "/v2/models/",
        "/v2/models/scaled/foo",
        "/v2/models/scaled/ready/ready",
        "/v2/models/scaled/versions",
        "/v2/models/scaled/versions/1/foo",
        "/v2/models/a%2Fscaled",
        "/v2/models/..%2Fscaled",
        "/v2/models/scaled%00",
        "//v2",
        "/v2/repository",
        "/%",
        "/" + "a" * 10_000,
        "*",
    ],
)
def test_an_unknown_path_is_404(client: Client, path: str) -> None:
    refused(client.get(path), 404)


@pytest.mark.parametrize("word", ["infer/infer", "foo", "infer/foo", "versions/1/infer/1"])
def test_an_unknown_path_is_404_for_bodies_too(client: Client, word: str) -> None:
    for _ in range(2):
        refused(client.post(f"/v2/models/scaled/{word}", jsonned({"x": X})), 404)


def test_a_path_that_is_no_utf8_is_400(client: Client) -> None:
    assert "UTF-8" in refused(client.get("/v2/models/%FF"))


def test_an_unknown_input_is_named_with_those_there_are(client: Client) -> None:
    assert "'x', got 'z'" in refused(ask(client, changed(name="z")))


def test_an_unknown_output_is_named_with_those_there_are(client: Client) -> None:
    assert "'y', got 'z'" in refused(ask(client, changed() | {"outputs": [{"name": "z"}]}))


def test_a_missing_input_is_named(client: Client) -> None:
    a = X[:, :2]
    assert "b is missing" in refused(client.post(path_of("sums"), jsonned({"a": a})))
    refused(ask(client, {"inputs": []}, "sums"))


def test_an_input_that_comes_twice_is_refused(client: Client) -> None:
    document = changed()
    assert "twice" in refused(ask(client, {"inputs": document["inputs"] * 2}))


# Shapes, datatypes and sizes


@pytest.mark.parametrize(
    "shape",
    [
        [],
        [4],
        [1, 3],
        [1, 4, 1],
        [0, 4],
        [-1, 4],
        [-1, -4],
        [2**63, 4],
        [2**64, 2**64],
        [10**30, 4],
    ],
)
def test_a_wrong_shape_is_refused(client: Client, shape: list[int]) -> None:
    refused(ask(client, changed(shape=shape)))
    size = {"binary_data_size": 16}
    document = {"inputs": [tensor("x", X, parameters=size) | {"shape": shape}]}
    refused(ask(client, document, blob=X.tobytes()))


@pytest.mark.parametrize("shape", [[2**64, 0], [1, 2**62, 0], [2**32, 2**32, 0], [0, 2**63]])
@pytest.mark.parametrize("model", ["free", "alone"])
def test_products_of_dimensions_do_not_overflow(
    client: Client, shape: list[int], model: str
) -> None:
    refused(ask(client, changed(shape=shape, data=[]), model))
    size = {"binary_data_size": 0}
    head = json.dumps({"inputs": [{**tensor("x", X, parameters=size), "shape": shape}]}).encode()
    length = len(head)
    refused(client.post(path_of(model), head, Inference_Header_Content_Length=length))


@pytest.mark.parametrize("shape", [[1.5, 4], ["1", 4], [True, 4], None, "1,4", {"0": 1}])
def test_a_shape_that_is_none_is_refused(client: Client, shape: object) -> None:
    refused(ask(client, changed(shape=shape)))


@pytest.mark.parametrize("datatype", ["FP64", "INT32", "fp32", "", "BYTES", "FP8"])
def test_a_wrong_datatype_is_refused(client: Client, datatype: str) -> None:
    assert "FP32" in refused(ask(client, changed(datatype=datatype)))


def test_more_rows_than_a_batch_may_have_are_refused(client: Client) -> None:
    x = np.ones((5, 4), np.float32)
    assert "from 1 to 4, got 5" in refused(client.raw(infer("small", {"x": x})))


def test_inputs_of_unlike_batches_are_refused(client: Client) -> None:
    one, two = np.ones((1, 2), np.float32), np.ones((2, 2), np.float32)
    assert "[1, 2]" in refused(client.raw(infer("sums", {"a": one, "b": two})))


@pytest.mark.parametrize(
    "data", [[], [1, 2, 3], [1, 2, 3, 4, 5], 7, None, "1234", {}, [[1, 2], 3, 4], [None] * 4]
)
def test_wrong_data_is_refused(client: Client, data: object) -> None:
    assert "'x'" in refused(ask(client, changed(data=data)))


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity", "1e999", "1e39", "01", "true"])
def test_what_is_no_number_in_json_is_refused(client: Client, word: str) -> None:
    text = json.dumps(changed()).replace("3.0", word).encode()
    refused(ask(client, text))


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("UINT8", [1, -1, 0]),
        ("UINT8", [1, 256, 0]),
        ("UINT8", [1, 1.5, 0]),
        ("INT64", [1, 2**63, 0]),
        ("INT64", [1, "2", 0]),
        ("BOOL", [True, 1, False]),
        ("FP16", [1, 70_000, 0]),
        ("FP32", [1, -1e39, 0]),
        ("BYTES", ["a", 1, "b"]),
        ("BYTES", ["a", None, "b"]),
    ],
)
def test_values_that_the_datatype_has_not_are_refused(
    client: Client, datatype: str, values: list[object]
) -> None:
    document = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": datatype, "data": values}]}
    assert "'x'" in refused(ask(client, document, f"same-{datatype}"))


def test_outputs_that_json_has_no_word_for_are_refused(client: Client) -> None:
    assert "binary_data" in refused(client.post(path_of("nan"), jsonned({"x": X})))
    assert np.isnan(outputs(client.raw(infer("nan", {"x": X})))["y"]).all()


def test_one_of_a_batch_that_cannot_be_told_does_not_harm_the_others(client: Client) -> None:
    nan = np.array([[np.nan, 0, 0]], np.float32)
    body, length = binary({"x": nan})
    bad = client.post(path_of("same-FP32"), body, Inference_Header_Content_Length=length)
    assert "NaN" in refused(bad)


# Binary data


@pytest.mark.parametrize("size", [0, 15, 17, -16, 2**70, 16.0, "16", None, True])
def test_a_wrong_binary_size_is_refused(client: Client, size: object) -> None:
    document = {"inputs": [tensor("x", X, parameters={"binary_data_size": size})]}
    refused(ask(client, document, blob=X.tobytes()))


@pytest.mark.parametrize("extra", [-16, -1, 1, 1000])
def test_binary_bytes_that_are_missing_or_left_over_are_refused(client: Client, extra: int) -> None:
    body, length = binary({"x": X})
    body = body + bytes(extra) if extra > 0 else body[:extra]
    answer = client.post(path_of("scaled"), body, Inference_Header_Content_Length=length)
    assert f"got {16 + extra}" in refused(answer)


def test_binary_data_without_the_length_of_the_json_is_refused(client: Client) -> None:
    body, _ = binary({"x": X})
    refused(client.post(path_of("scaled"), body))


def test_a_json_length_beyond_the_body_is_refused(client: Client) -> None:
    body = jsonned({"x": X})
    answer = client.post(path_of("scaled"), body, Inference_Header_Content_Length=len(body) + 1)
    assert "within the body" in refused(answer)


def test_an_input_with_neither_data_nor_a_size_is_refused(client: Client) -> None:
    assert "neither" in refused(ask(client, {"inputs": [tensor("x", X)]}))


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x01\x00\x00",
        struct.pack("<I", 4) + b"abc",
        struct.pack("<I", 1) + b"a",
        struct.pack("<I", 0) * 2,
        struct.pack("<I", 0) * 4,
        struct.pack("<I", 2**32 - 1) + b"abc",
        struct.pack("<I", 0) * 3 + b"\x00",
        (struct.pack("<I", 1) + b"\xff") * 3,
    ],
)
def test_elements_that_do_not_fit_their_lengths_are_refused(client: Client, blob: bytes) -> None:
    x = np.array([["a", "b", "c"]], object)
    size = {"binary_data_size": len(blob)}
    head = json.dumps({"inputs": [tensor("x", x, parameters=size)]}).encode()
    answer = client.post(
        path_of("same-BYTES"), head + blob, Inference_Header_Content_Length=len(head)
    )
    assert "'x'" in refused(answer)


def test_bytes_that_are_no_booleans_are_refused(client: Client) -> None:
    x = np.array([[True, False, True]])
    body, length = binary({"x": x})
    answer = client.post(
        path_of("same-BOOL"), body[:-1] + b"\x02", Inference_Header_Content_Length=length
    )
    assert "0 or 1" in refused(answer)


# JSON


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"7",
        b'"inputs"',
        b'{"inputs": null}',
        b'{"inputs": {}}',
        b'{"inputs": [7]}',
        b'{"inputs": [{}]}',
        b'{"inputs": [{"name": 1, "shape": [], "datatype": ""}]}',
        b'{"inputs": []} {"inputs": []}',
        b"\xef\xbb\xbf{}",
        b'{"inputs": [{"name": "\xff"}]}',
        b'{"inputs": [{"name": "\\ud800"}]}',
        b'{"inputs": "\x00"}',
        b"\x00" * 100,
        b"inputs=7&x=1",
    ],
)
def test_a_body_that_is_no_infer_request_is_refused(client: Client, body: bytes) -> None:
    assert "JSON" in refused(ask(client, body)) or body == b'{"inputs": []}'


@pytest.mark.parametrize("where", ["data", "parameters", "unknown", "body"])
def test_deep_json_is_refused_or_passed_over(client: Client, where: str) -> None:
    deep = b"[" * 100_000 + b"]" * 100_000
    text = deep
    if where != "body":
        text = json.dumps(changed(**{where: "@"})).encode().replace(b'"@"', deep)
    refused(ask(client, text))


@pytest.mark.parametrize(
    "parameters",
    [
        {"priority": -1},
        {"priority": "1"},
        {"timeout": 1.5},
        {"timeout": True},
        {"timeout": None},
        {"sequence_id": 1},
        {"sequence_id": "a"},
    ],
)
def test_wrong_parameters_are_refused(client: Client, parameters: dict[str, object]) -> None:
    assert next(iter(parameters)) in refused(ask(client, changed() | {"parameters": parameters}))


@pytest.mark.parametrize("count", [-1, "2", 1.5, None])
def test_a_wrong_number_of_classes_is_refused(client: Client, count: object) -> None:
    asked = [{"name": "y", "parameters": {"classification": count}}]
    assert "classification" in refused(ask(client, changed() | {"outputs": asked}))


def test_more_classes_than_there_are_is_all_of_them(client: Client) -> None:
    asked = [{"name": "y", "parameters": {"classification": 2**60}}]
    assert outputs(ask(client, changed() | {"outputs": asked}))["y"].shape == (1, 4)


# The repository


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_a_model_that_is_not_there_is_neither_loaded_nor_unloaded(
    client: Client, verb: str
) -> None:
    refused(client.post(f"/v2/repository/models/nothing/{verb}"), 404)


def test_a_name_that_was_asked_in_vain_does_not_appear_in_the_index(client: Client) -> None:
    client.post("/v2/repository/models/nothing/load")
    assert "nothing" not in client.post("/v2/repository/index").body.decode()


def test_parameters_of_loading_that_are_not_served_are_refused(client: Client) -> None:
    body = json.dumps({"parameters": {"config": "{}"}}).encode()
    assert "config" in refused(client.post("/v2/repository/models/scaled/load", body))
