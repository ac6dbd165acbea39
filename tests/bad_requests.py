"""Requests that are otherwise than they should be, and the refusals they get."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from inference_v2 import jsonned, path_of, tensor
from served import Answer, Client

__all__ = ["BODY", "PATH", "X", "ask", "changed", "ended", "post", "refused"]

X = np.array([[1, 2, 3, 4]], np.float32)
BODY = jsonned({"x": X})
PATH = path_of("scaled")


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


def ended(client: Client, data: bytes, status: int = 400) -> Answer:
    """Send what ends a connection, and see that it is told why."""
    client.send(data)
    answer = client.receive()
    assert answer.status == status, answer
    assert answer.headers["connection"] == "close"
    assert answer.complaint
    assert client.ended
    return answer


def post(*headers: str, body: bytes = BODY) -> bytes:
    return "\r\n".join([f"POST {PATH} HTTP/1.1", "Host: a", *headers, "", ""]).encode() + body
