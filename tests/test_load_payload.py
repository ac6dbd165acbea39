"""The requests of the pool and the outputs in an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import DataError, OptionError
from hasten.graph import Signature, TensorSpec
from hasten.load_generator.payload import Payload, build_payload, read_answer
from hasten.load_generator.server import ServedModel, Server

SERVER = Server.at("http://127.0.0.1:8000/prefix")


def model(*inputs: TensorSpec) -> ServedModel:
    signature = Signature(inputs, (TensorSpec("y", "float32", (None, 4)),))
    return ServedModel("net", "onnx", signature, "/prefix/v2/models/net/infer")


NET = model(TensorSpec("x", "float32", (None, 4)))


def payload(of: ServedModel, tmp_path: Path, **more: Any) -> Payload:
    wanted = {"data": None, "tensors": "binary", "samples_per_query": 1, "seed": 0} | more
    return build_payload(SERVER, of, scratch=tmp_path, **wanted)


def parts(request: bytes) -> tuple[dict[str, str], dict[str, Any], bytes]:
    """Headers, JSON and raw bytes of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ") for line in head.decode().split("\r\n")[1:])
    assert int(headers["Content-Length"]) == len(body)
    length = int(headers.get("Inference-Header-Content-Length", len(body)))
    return headers, json.loads(body[:length]), body[length:]


def saved(tmp_path: Path, **arrays: Any) -> str:
    np.savez(tmp_path / "data.npz", **arrays)
    return str(tmp_path / "data.npz")


def test_raw_bytes_follow_the_json_in_the_order_of_the_inputs(tmp_path: Path) -> None:
    two = model(TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "int64", (None, 1)))
    data = saved(tmp_path, b=np.array([[7], [8]]), a=np.array([[1, 2], [3, 4]], np.float32))
    _, document, raw = parts(payload(two, tmp_path, data=data).requests[1])

    assert [one["name"] for one in document["inputs"]] == ["a", "b"]
    assert document["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert document["parameters"] == {"binary_data_output": True}
    assert raw == np.array([3, 4], np.float32).tobytes() + np.array([8]).tobytes()


def test_json_holds_the_numbers_flat(tmp_path: Path) -> None:
    data = saved(tmp_path, x=np.arange(8, dtype=np.float32).reshape(2, 4))
    built = payload(NET, tmp_path, data=data, tensors="json")
    headers, document, raw = parts(built.requests[1])

    assert document == {
        "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [4, 5, 6, 7]}]
    }
    assert (raw, headers["Content-Type"]) == (b"", "application/json")
    assert built.requests[1].startswith(b"POST /prefix/v2/models/net/infer HTTP/1.1\r\n")


def test_a_query_of_several_samples_starts_over_where_they_run_out(tmp_path: Path) -> None:
    data = saved(tmp_path, x=np.arange(20, dtype=np.float32).reshape(5, 4))
    built = payload(NET, tmp_path, data=data, samples_per_query=3)

    assert [rows.tolist() for rows in built.rows] == [[0, 1, 2], [3, 4, 0]]
    assert (built.samples_per_query, built.total_rows, built.left_out) == (3, 5, 0)


def test_a_model_with_a_fixed_batch_gets_it(tmp_path: Path) -> None:
    fixed = model(TensorSpec("x", "float32", (2, 4)))
    built = payload(fixed, tmp_path)

    assert built.samples_per_query == 2
    with pytest.raises(OptionError, match=r"Expected 2 samples a query.*got 3"):
        payload(fixed, tmp_path, samples_per_query=3)


def test_random_samples_are_the_seeds(tmp_path: Path) -> None:
    one, same, other = (payload(NET, tmp_path, seed=seed).requests for seed in (1, 1, 2))

    assert one == same
    assert one != other
    assert len(set(one)) == len(one)


def test_a_free_size_needs_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a size for every dimension.*got x: float32\[\?,\?\]"):
        payload(model(TensorSpec("x", "float32", (None, None))), tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_not_sent_as_json(tmp_path: Path, dtype: str) -> None:
    with pytest.raises(OptionError, match="--tensors binary"):
        payload(model(TensorSpec("x", dtype, (None, 4))), tmp_path, tensors="json")


@given(st.integers(0, 5), st.booleans(), st.sampled_from(["FP32", "INT64", "UINT8", "BOOL"]))
def test_outputs_are_read_as_they_were_written(rows: int, binary: bool, datatype: str) -> None:
    dtype = {"FP32": "float32", "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}[datatype]
    values = np.arange(rows * 3).reshape(rows, 3).astype(dtype)
    described: dict[str, Any] = {"name": "y", "datatype": datatype, "shape": values.shape}
    if binary:
        described["parameters"] = {"binary_data_size": values.nbytes}
    else:
        described["data"] = values.ravel().tolist()
    text = json.dumps({"model_name": "net", "outputs": [described]}).encode()
    found = read_answer(text + values.tobytes() * binary, len(text) if binary else None)

    assert found["y"].dtype == dtype
    np.testing.assert_array_equal(found["y"], values)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"outputs": [{"name": "y"}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP31", "shape": [1], "data": [1]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [1]}]}',
        b'{"outputs": [{"name": "y", "datatype": "FP32", "shape": "ab", "data": ["a"]}]}',
        b'{"outputs": 3}',
    ],
)
def test_what_is_no_answer_is_an_error(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_answer(body, None)
