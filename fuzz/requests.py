"""Fuzzes a real server: changed requests on some connections, an honest client beside them."""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from fuzz import seeds
from fuzz.mutate import mutated
from fuzz.watch import keep

__all__ = ["fuzz_server"]

_HASTEN = (sys.executable, "-c", "from hasten.cli.main import main; main()")
_READY = re.compile(r"ready at http://([^:]+):(\d+)")
_PATIENCE_S = 10.0
#: An answer to each changed request is waited for so long: most never get one.
_GLANCE_S = 0.02
_WORDS = (
    *(b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b":", b"\0", b"0\r\n\r\n", b"ffffffffffffffff\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Expect: 100-continue\r\n"),
    *(b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"CONNECT / HTTP/1.1\r\n", b"HTTP/1.0"),
    *(b"Inference-Header-Content-Length: 10\r\n", b"Content-Encoding: gzip\r\n", b"POST "),
)
_JSON_WORDS = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"data":', b'"inputs":', b'"parameters":{', b"null"),
    *(
        b'"binary_data_size":',
        b"1e999",
        b"-1",
        b"NaN",
        b'"shape":[9999999999]',
        b"[" * 200,
        b"\\u0061",
    ),
)


def fuzz_server(target: str, time_s: float, seed: int) -> int:
    """Send changed requests for so many seconds; return how many findings there were.

    ``http`` changes any bytes of a request, ``json`` those of its body alone. It is a finding when
    the honest client gets a wrong answer or none, or when the server ends.
    """
    draw = random.Random(seed)  # noqa: S311 - so that a run can be had again
    bodies = seeds.json_seeds()
    requests = [_framed(body) for body in bodies] + _others(bodies[0])
    findings = inputs = 0
    end = time.monotonic() + time_s
    while time.monotonic() < end:
        with _server() as (process, address):
            honest = _Honest(address)
            honest.start()
            sent: list[bytes] = []
            while time.monotonic() < end and not honest.wrong and process.poll() is None:
                one = (
                    mutated(draw, requests, _WORDS)
                    if target == "http"
                    else _framed(mutated(draw, bodies, _JSON_WORDS))
                )
                sent = [*sent[-200:], one]
                _send(address, one)
                inputs += 1
            honest.stop()
            wrong = honest.wrong
            if process.poll() is not None:
                wrong = f"the server ended: {process.returncode}"
            if wrong:
                findings += 1
                keep(target, b"\n=====\n".join(sent), wrong)
    sys.stdout.write(f"{target:8} {inputs:9,d} inputs in {time_s:.0f} s, {findings} findings\n")
    return findings


def _framed(body: bytes) -> bytes:
    head = f"POST /v2/models/net/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _others(body: bytes) -> list[bytes]:
    chunked = b"POST /v2/models/net/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    pieces = [body[at : at + 64] for at in range(0, len(body), 64)]
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in pieces)
    return [
        chunked + chunks + b"0\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\nGET /v2/models/net HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST /v2/repository/index HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    ]


def _send(address: tuple[str, int], data: bytes) -> None:
    """Send to a connection of its own and look whether something comes; hang up."""
    with contextlib.suppress(OSError), socket.create_connection(address, _PATIENCE_S) as one:
        one.sendall(data)
        one.settimeout(_GLANCE_S)
        one.recv(4096)


class _Honest(threading.Thread):
    """A client with requests of its own, whose answers have to be right and soon."""

    def __init__(self, address: tuple[str, int]) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._ended = threading.Event()
        self.wrong = ""

    def run(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=_PATIENCE_S)
        weight = np.arange(36, dtype=np.float32).reshape(6, 6) / 36
        number = 0
        while not self._ended.is_set() and not self.wrong:
            number += 1
            x = np.full((1, 4, 6), number % 97 - 48, np.float32)
            try:
                got = _asked(connection, x)
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                self.wrong = f"an honest request failed: {error!r}"
                return
            if not np.allclose(got, np.maximum(x @ weight, 0), atol=1e-4):
                self.wrong = f"a wrong answer to {number}"

    def stop(self) -> None:
        """End after the request that is being answered."""
        self._ended.set()
        self.join()


def _asked(connection: http.client.HTTPConnection, x: np.ndarray) -> np.ndarray:
    tensor = {"name": "x", "shape": x.shape, "datatype": "FP32", "data": x.ravel().tolist()}
    connection.request("POST", "/v2/models/net/infer", json.dumps({"inputs": [tensor]}))
    answer = connection.getresponse()
    document = json.loads(answer.read())
    if answer.status != http.HTTPStatus.OK:
        raise ValueError(f"{answer.status} {document}")
    return np.array(document["outputs"][0]["data"], np.float32).reshape(x.shape)


@contextlib.contextmanager
def _server() -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(seeds.onnx_seeds()[0])
        process = subprocess.Popen(
            [*_HASTEN, "serve", str(path), "--http-port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        try:
            found = _READY.search(process.stdout.readline() if process.stdout else "")
            if found is None:
                raise RuntimeError("the server did not start")
            yield process, (found[1], int(found[2]))
        finally:
            process.kill()
            process.wait()
