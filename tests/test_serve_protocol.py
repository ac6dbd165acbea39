"""The V2 protocol over a real socket: every endpoint, in the protocol's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from inference_v2 import binary, infer, jsonned, outputs, path_of, raw_bytes
from served import EXPLICIT, Client, Served, message, serving
from served_models import ALONE, entry, put_labelled, put_onnx, scaled, sums

X = np.array([[1, 2, 3, 4], [-5, 6.5, 0, 8]], np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("protocol")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "sums.onnx", sums())
    put_onnx(models / "modell straße.onnx", scaled())
    entry(models / "alone", scaled(), ALONE)
    put_labelled(models / "classes")
    entry(models / "many", scaled(2.0), "version_policy: { all { } }")
    entry(models / "many", scaled(5.0), version=3)
    with serving(models, *EXPLICIT, "--serve-files", folder=folder) as served:
        yield served


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


def test_a_version_can_be_asked_for_and_the_latest_is_the_usual_one(client: Client) -> None:
    body = jsonned({"x": X})
    for path, factor in (
        ("many/versions/1", 2),
        ("many/versions/3", 5),
        ("many", 5),
    ):
        answer = client.post(f"/v2/models/{path}/infer", body)
        assert np.array_equal(outputs(answer)["y"], factor * X)


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
