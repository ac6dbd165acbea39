"""Names, JSON and parameters that are wrong: the right status, one sentence, no harm to others."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from bad_requests import X, ask, changed, refused
from inference_v2 import jsonned, outputs, path_of
from served import EXPLICIT, Client, Served, serving
from served_models import put_onnx, scaled, sums
from unharmed import lasting_client

client = lasting_client


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bad")
    models = folder / "models"
    put_onnx(models / "scaled.onnx", scaled())
    put_onnx(models / "sums.onnx", sums())
    with serving(models, *EXPLICIT, folder=folder) as served:
        yield served


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
