"""Tensors whose config.pbtxt reshapes them: clients see its dims, the model has its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.serve.engine.reshape import Dims, resized
from inference_v2 import infer, jsonned, outputs, path_of
from served import Client, Served, message, serving
from served_models import entry, identity, scaled


def config(batch: int, dims: list[int], shape: list[int], *, kind: str = "FP32") -> str:
    tensors = "".join(
        f"{role} [{{ name: '{name}', data_type: TYPE_{kind}, dims: {dims},"
        f" reshape: {{ shape: {shape} }} }}]\n"
        for role, name in (("input", "x"), ("output", "y"))
    )
    rest = "dynamic_batching { }\nresponse_cache { enable: true }"
    return f"max_batch_size: {batch}\n{tensors}{rest}"


ONE_WAY = """max_batch_size: 8
input [{ name: "x", data_type: TYPE_FP32, dims: [ 6 ], reshape: { shape: [ 2, 3 ] } }]
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("reshape")
    models = folder / "models"
    entry(models / "flat", scaled(2.0, ("n", 2, 3)), config(8, [6], [2, 3]))
    entry(models / "free", scaled(2.0, ("n", "m", 2)), config(8, [-1, 2, 1], [-1, 2]))
    entry(models / "vector", scaled(2.0, ("n",)), config(8, [1], []))
    entry(models / "alone", scaled(2.0, (4,)), config(0, [2, 2], [4]))
    entry(models / "texts", identity("BYTES", ("n",)), config(8, [1], [], kind="STRING"))
    entry(models / "input-only", scaled(2.0, ("n", 2, 3)), ONE_WAY)
    with serving(models, "--cache-mb", "1", folder=folder) as served:
        yield served


def rows(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


SHAPES = [
    ("flat", (1, 6)),
    ("flat", (3, 6)),
    ("free", (1, 5, 2, 1)),
    ("free", (2, 7, 2, 1)),
    ("vector", (4, 1)),
    ("alone", (2, 2)),
]


@pytest.mark.parametrize(("model", "shape"), SHAPES)
def test_clients_send_and_receive_the_dims_of_the_config(
    client: Client, model: str, shape: tuple[int, ...]
) -> None:
    x = rows(*shape)
    for _ in range(2):  # the second time it comes from the cache
        binary = outputs(client.raw(infer(model, {"x": x})))["y"]
        in_json = outputs(client.post(path_of(model), jsonned({"x": x})))["y"]
        assert binary.shape == in_json.shape == shape
        assert np.array_equal(binary, 2 * x)
        assert np.array_equal(in_json, 2 * x)


def test_requests_that_share_a_batch_get_their_own_rows(server: Served, client: Client) -> None:
    wanted = [rows(1, 6) + at for at in range(40)]
    client.send(b"".join(infer("flat", {"x": x}) for x in wanted))
    for x in wanted:
        assert np.array_equal(outputs(client.receive())["y"], 2 * x)
    assert any(one["batch_size"] > 1 for one in server.statistics("flat")["batch_stats"])


def test_only_what_the_config_reshapes_is_reshaped(client: Client) -> None:
    x = rows(2, 6)
    y = outputs(client.raw(infer("input-only", {"x": x})))["y"]
    assert np.array_equal(y, 2 * x.reshape(2, 2, 3))


@pytest.mark.parametrize("shape", [(1, 2, 3), (6,), (1, 5), (1, 7)])
def test_the_shape_of_the_model_itself_is_refused(client: Client, shape: tuple[int, ...]) -> None:
    answer = client.raw(infer("flat", {"x": rows(*shape)}))
    assert answer.status == 400
    assert "float32[?,6]" in answer.complaint


def test_metadata_shows_the_dims_of_the_config(client: Client) -> None:
    document = client.get("/v2/models/free").document
    for one in (*document["inputs"], *document["outputs"]):
        assert one["shape"] == [-1, -1, 2, 1]
    assert client.get("/v2/models/alone").document["inputs"][0]["shape"] == [2, 2]


def test_the_configuration_is_as_it_was_written(client: Client) -> None:
    document = client.get("/v2/models/free/config").document
    tensor: dict[str, Any] = {"dims": [-1, 2, 1], "reshape": {"shape": [-1, 2]}}
    given = tensor | {"format": "FORMAT_NONE"}
    assert document["input"] == [{"name": "x", "data_type": "TYPE_FP32"} | given]
    assert document["output"] == [{"name": "y", "data_type": "TYPE_FP32"} | tensor]
    (plain,) = client.get("/v2/models/input-only/config").document["output"]
    assert plain == {"name": "y", "data_type": "TYPE_FP32", "dims": [2, 3]}


def test_a_raw_body_has_the_shape_of_the_config(client: Client) -> None:
    x = rows(2, 6)
    data = message("POST", path_of("flat"), x.tobytes(), Inference_Header_Content_Length=0)
    assert np.array_equal(outputs(client.raw(data))["y"], 2 * x)
    data = message("POST", path_of("texts"), b"a text", Inference_Header_Content_Length=0)
    assert outputs(client.raw(data))["y"].tolist() == [["a text"]]


def test_classes_are_those_of_the_reshaped_output(client: Client) -> None:
    asked = [{"name": "y", "parameters": {"classification": 1}}]
    body = json.loads(jsonned({"x": rows(2, 6)})) | {"outputs": asked}
    answer = client.post(path_of("flat"), json.dumps(body).encode())
    assert outputs(answer)["y"].tolist() == [["10.000000:5"], ["22.000000:5"]]


# Shapes

GROUPS = st.lists(st.lists(st.integers(1, 4), max_size=3), min_size=1, max_size=4)


def joined(groups: list[list[int]]) -> Dims:
    """Groups of fixed dimensions, with a free one between each and the next."""
    dims: list[int | None] = []
    for at, group in enumerate(groups):
        dims += [None, *group] if at else group
    return tuple(dims)


@given(GROUPS, st.data())
def test_a_reshape_there_and_back_is_none(groups: list[list[int]], data: st.DataObject) -> None:
    known = joined(groups)
    wanted = joined([[int(np.prod(group)), 1] for group in groups])
    shape = tuple(data.draw(st.integers(0, 5)) if dim is None else dim for dim in known)
    there = resized(shape, known, wanted)
    assert np.prod(there) == np.prod(shape)
    assert resized(there, wanted, known) == shape
