"""The V2 protocol over a real socket: every endpoint, and tensors of every kind both ways."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from inference_v2 import DATATYPES, binary, infer, jsonned, outputs, path_of, raw_bytes, tensor
from served import Answer, Client, Served, message, serving
from served_models import entry, identity, put_onnx, scaled, sums, two_sizes

X = np.array([[1, 2, 3, 4], [-5, 6.5, 0, 8]], np.float32)

_BATCHED = 'max_batch_size: 8\ninput [{ name: "x", data_type: TYPE_FP32, dims: [ 4 ] }]\n'
_CLASSES = (
    _BATCHED + 'output [{ name: "y", data_type: TYPE_FP32, dims: [ 4 ],'
    ' label_filename: "labels.txt" }]\n'
)
_ALONE = """max_batch_size: 0
input [{ name: "x", data_type: TYPE_FP32, dims: [ -1, 4 ] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [ -1, 4 ] }]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("protocol")
    models = folder / "models"
    for datatype in DATATYPES:
        put_onnx(models / f"same-{datatype}.onnx", identity(datatype))
    put_onnx(models / "text.onnx", identity("BYTES", ("n", 1)))
    put_onnx(models / "lone-text.onnx", identity("BYTES", (1,)))
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "sums.onnx", sums())
    put_onnx(models / "free.onnx", scaled(3.0, ("n", "m")))
    put_onnx(models / "wide.onnx", scaled(2.0, ("n", 40_000)))
    put_onnx(models / "places.onnx", two_sizes())
    put_onnx(models / "modell straße.onnx", scaled())
    entry(models / "alone", scaled(), _ALONE)
    entry(models / "classes", scaled(), _CLASSES)
    (models / "classes" / "labels.txt").write_text("cat\ndog\nfox\n")
    entry(models / "many", scaled(2.0), "version_policy: { all { } }")
    entry(models / "many", scaled(5.0), version=3)
    with serving(models, folder=folder) as served:
        yield served


@pytest.fixture
def client(server: Served) -> Iterator[Client]:
    with server.connect() as connected:
        yield connected


def values(datatype: str) -> np.ndarray:
    """Two rows of three, with the extremes of the datatype."""
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        return np.array([["", "a", "straße\x00"], ["日本", '"quoted"', "line\n"]], object)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([[info.min, 0, 1], [info.max, info.max - 1, 7]], dtype)
    top = float((ml_dtypes if datatype == "BF16" else np).finfo(dtype).max)
    return np.array([[-top, 0, 0.5], [top, 1.5, -2]], dtype)


# Health, metadata, configuration


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/scaled/ready"])
def test_health_is_200_without_a_body(client: Client, path: str) -> None:
    answer = client.get(path)
    assert (answer.status, answer.body) == (200, b"")


def test_the_server_tells_its_name_and_extensions(client: Client) -> None:
    document = client.get("/v2").document
    assert document["name"] == "hasten"
    assert {"binary_tensor_data", "classification", "statistics"} <= set(document["extensions"])


def test_metadata_tells_tensors_with_a_free_batch_as_minus_one(client: Client) -> None:
    document = client.get("/v2/models/scaled").document
    assert document["name"] == "scaled"
    assert document["versions"] == ["1"]
    assert document["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert document["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}]


def test_metadata_lists_all_versions_that_are_served(client: Client) -> None:
    assert client.get("/v2/models/many").document["versions"] == ["1", "3"]
    assert client.get("/v2/models/many/versions/1").document["versions"] == ["1", "3"]


def test_the_configuration_tells_what_holds(client: Client) -> None:
    document = client.get("/v2/models/classes/config").document
    assert document["max_batch_size"] == 8
    assert document["name"] == "classes"
    assert client.get("/v2/models/alone/config").document["max_batch_size"] == 0


def test_statistics_count_requests_rows_and_batches(server: Served) -> None:
    before = server.statistics("sums")
    a = np.ones((3, 2), np.float32)
    with server.connect() as client:
        client.raw(infer("sums", {"a": a, "b": a}))
    after = server.statistics("sums")
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    success = [one["inference_stats"]["success"]["count"] for one in (before, after)]
    assert success[1] - success[0] == 1
    assert after["last_inference"] > 0


def test_statistics_of_all_models_come_in_one_answer(client: Client) -> None:
    names = [one["name"] for one in client.get("/v2/models/stats").document["model_stats"]]
    assert {"scaled", "sums", "many"} <= set(names)


def test_metrics_and_the_page_are_served(client: Client) -> None:
    metrics = client.get("/metrics")
    assert b'nv_inference_count{model="scaled",version="1"}' in metrics.body
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")


def test_a_model_file_can_be_downloaded(client: Client, server: Served) -> None:
    answer = client.get("/v2/models/scaled/file")
    assert answer.status == 200
    assert answer.body == scaled().SerializeToString()
    assert client.get("/v2/health/live").status == 200


def test_a_bundle_report_that_is_not_there_is_404(client: Client) -> None:
    assert client.get("/v2/models/scaled/report").status == 404


def test_a_name_is_percent_encoded_utf8(client: Client) -> None:
    path = "/v2/models/modell%20stra%C3%9Fe"
    assert client.get(path).document["name"] == "modell straße"
    assert client.post(f"{path}/infer", jsonned({"x": X})).status == 200


def test_a_query_and_a_slash_at_the_end_are_no_part_of_the_path(client: Client) -> None:
    assert client.get("/v2/models/scaled/?verbose=1").status == 200
    assert client.post("/v2/models/scaled/infer/?a=b", jsonned({"x": X})).status == 200


# Tensors


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


def test_a_version_can_be_asked_for_and_the_latest_is_the_usual_one(client: Client) -> None:
    body = jsonned({"x": X})
    for path, factor in (
        ("many/versions/1", 2),
        ("many/versions/3", 5),
        ("many", 5),
    ):
        answer = client.post(f"/v2/models/{path}/infer", body)
        assert np.array_equal(outputs(answer)["y"], factor * X)


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


# Requests and answers as the protocol's own words have them


def test_raw_bytes_of_an_answer_are_aligned_with_what_its_head_says(client: Client) -> None:
    a = X[:, :2]
    answer = client.raw(infer("sums", {"a": a, "b": a}))
    at = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.body[:at])
    sizes = [one["parameters"]["binary_data_size"] for one in document["outputs"]]
    assert sizes == [a.nbytes] * 2
    assert answer.body[at:] == raw_bytes(a + a) + raw_bytes(a - a)


def test_sequences_are_refused(client: Client) -> None:
    answer = client.post(path_of("scaled"), jsonned({"x": X}, parameters={"sequence_id": 7}))
    assert answer.status == 400


def test_a_priority_is_ignored_where_there_are_none(client: Client) -> None:
    answer = client.post(path_of("scaled"), jsonned({"x": X}, parameters={"priority": 2}))
    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v2/models/scaled/infer", "POST"),
        ("DELETE", "/v2/models/scaled", "GET"),
        ("POST", "/v2/health/live", "GET"),
        ("PUT", "/metrics", "GET"),
        ("GET", "/v2/repository/models/scaled/load", "POST"),
    ],
)
def test_another_method_is_405_with_what_is_allowed(
    client: Client, method: str, path: str, allowed: str
) -> None:
    answer = client.raw(message(method, path))
    assert answer.status == 405
    assert allowed in answer.headers["allow"].split(", ")
    assert client.get("/v2/health/live").status == 200


def test_tritons_own_client_is_answered(server: Served) -> None:
    http = pytest.importorskip("tritonclient.http")
    with http.InferenceServerClient(server.url) as triton:
        assert triton.is_server_ready()
        assert triton.is_model_ready("scaled")
        wanted = http.InferInput("x", list(X.shape), "FP32")
        wanted.set_data_from_numpy(X)
        for algorithm in (None, "gzip", "deflate"):
            result = triton.infer("scaled", [wanted], request_compression_algorithm=algorithm)
            assert np.array_equal(result.as_numpy("y"), 2 * X)


def test_binary_bodies_may_have_json_of_any_form(client: Client) -> None:
    body, length = binary({"x": X})
    spaced = json.dumps(json.loads(body[:length]), indent=2).encode()
    answer = client.post(
        path_of("scaled"), spaced + body[length:], Inference_Header_Content_Length=len(spaced)
    )
    assert np.array_equal(outputs(answer)["y"], 2 * X)
