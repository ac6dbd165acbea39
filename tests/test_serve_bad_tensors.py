"""Tensors that do not fit are refused in one sentence, and harm nobody else."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest

from bad_requests import X, ask, changed, refused
from inference_v2 import binary, infer, jsonned, outputs, path_of, tensor
from served import Client, Served, serving
from served_models import entry, identity, put_null, put_onnx, scaled, sums
from unharmed import lasting_client

ALONE = """max_batch_size: 0
input [{ name: "x", data_type: TYPE_FP32, dims: [ -1, -1 ] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [ -1, -1 ] }]
"""

client = lasting_client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tensors")
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
