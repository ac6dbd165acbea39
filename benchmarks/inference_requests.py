"""One request for inference in each protocol that the benchmark's servers speak, and its answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.request import Request as UrlRequest
from urllib.request import urlopen

import numpy as np
import numpy.typing as npt

__all__ = ["PROTOCOLS", "Protocol", "Request", "Rows", "ask", "plain_json", "v2_binary", "v2_json"]

Rows = npt.NDArray[np.float32]

_HEADER_LENGTH = "Inference-Header-Content-Length"


class Request(NamedTuple):
    """What is posted."""

    path: str
    headers: dict[str, str]
    body: bytes


class Protocol(NamedTuple):
    """How rows of input ``x`` become a request, and an answer's headers and body rows of ``y``."""

    name: str
    request: Callable[[Rows, str], Request]
    rows: Callable[[Mapping[str, str], bytes], Rows]


def v2_binary(rows: Rows, path: str) -> Request:
    """The V2 protocol with Triton's binary tensors, both ways."""
    tensor = {
        "name": "x",
        "shape": list(rows.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": rows.nbytes},
    }
    output = {"name": "y", "parameters": {"binary_data": True}}
    header = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(header))}
    return Request(path, headers, header + rows.tobytes())


def v2_json(rows: Rows, path: str) -> Request:
    """The V2 protocol in JSON alone."""
    tensor = {
        "name": "x",
        "shape": list(rows.shape),
        "datatype": "FP32",
        "data": _numbers(rows.ravel()),
    }
    return _json_request(path, {"inputs": [tensor]})


def plain_json(rows: Rows, path: str) -> Request:
    """A server's own JSON: one row, with the input's name as its key."""
    return _json_request(path, {"x": _numbers(rows[0])})


def plain_batch_json(rows: Rows, path: str) -> Request:
    """A server's own JSON: a batch of rows, with the input's name as its key."""
    return _json_request(path, {"x": [_numbers(row) for row in rows]})


def ask(url: str, request: Request) -> tuple[Mapping[str, str], bytes]:
    """Post once; returns headers and body. OSError where the answer is not a success."""
    posted = UrlRequest(url + request.path, request.body, request.headers)  # noqa: S310
    with urlopen(posted, timeout=60) as answer:  # noqa: S310
        return answer.headers, answer.read()


def _json_request(path: str, document: dict[str, Any]) -> Request:
    return Request(path, {"Content-Type": "application/json"}, json.dumps(document).encode())


def _numbers(values: Rows) -> list[float]:
    """As short as float32 can be written; Python alone would write the digits of float64."""
    return [float(str(value)) for value in values]


def _binary_rows(headers: Mapping[str, str], body: bytes) -> Rows:
    at = int(headers[_HEADER_LENGTH])
    (output,) = json.loads(body[:at])["outputs"]
    return np.frombuffer(body[at:], np.float32).reshape(output["shape"])


def _json_rows(headers: Mapping[str, str], body: bytes) -> Rows:  # noqa: ARG001
    (output,) = json.loads(body)["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def _plain_rows(headers: Mapping[str, str], body: bytes) -> Rows:  # noqa: ARG001
    document = json.loads(body)
    values = document["y"] if isinstance(document, dict) else document
    return np.array(values, np.float32).reshape(1, -1)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("V2 binary", v2_binary, _binary_rows),
        Protocol("V2 JSON", v2_json, _json_rows),
        Protocol("JSON of a row", plain_json, _plain_rows),
        Protocol("JSON of a batch", plain_batch_json, _plain_rows),
    )
}
