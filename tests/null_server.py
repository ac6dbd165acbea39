"""A V2 server that computes nothing: canned answers, and faults on demand.

Run: python tests/null_server.py [--stall-ms 200 --stall-after 500] ...; it prints its port. Every
input x of float32[?,4] is answered with y, twice as much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import httptools
import numpy as np
import uvloop

METADATA = {
    "name": "null",
    "versions": ["1"],
    "platform": "null",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 4]}],
}


def head(status: str, length: int, more: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}\r\n".encode()


CANNED = head("200 OK", 2, "Content-Type: application/json\r\n") + b"{}"


class Faults:
    """What the server does wrong, shared by its connections."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.served = 0
        self.stalled = False
        self.second = 0.0
        self.in_second = 0

    def refused(self) -> bool:
        now = time.monotonic()
        if now - self.second >= 0.1:
            self.second, self.in_second = now, 0
        self.in_second += 1
        return bool(self.in_second > self.options.refuse_above / 10)


class Connection(asyncio.Protocol):
    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.options = faults.options

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url, self.body, self.json_bytes = b"", b"", 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"inference-header-content-length":
            self.json_bytes = int(value)

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.url.endswith(b"/infer"):
            self.infer()
        elif self.url == b"/v2/health/ready":
            self.write("200 OK", b"")
        elif self.url == b"/v2/models/null":
            self.write("200 OK", json.dumps(METADATA).encode())
        elif self.url == b"/v2/repository/index":
            self.write("200 OK", b'[{"name": "null", "version": "1", "state": "READY"}]')
        else:
            self.write("404 Not Found", b'{"error": "unknown model"}')

    def infer(self) -> None:
        faults, options = self.faults, self.options
        faults.served += 1
        if options.stall_ms and not faults.stalled and faults.served > options.stall_after:
            faults.stalled = True
            time.sleep(options.stall_ms / 1e3)
        if options.error_every and faults.served % options.error_every == 0:
            self.write("500 Internal Server Error", b'{"error": "on purpose"}')
        elif options.disconnect_every and faults.served % options.disconnect_every == 0:
            self.transport.abort()
        elif options.refuse_above and faults.refused():
            self.write("503 Service Unavailable", b'{"error": "too busy"}')
        elif options.delay_ms:
            answer = self.answer()
            asyncio.get_running_loop().call_later(
                options.delay_ms / 1e3, self.transport.write, answer
            )
        elif options.burn_us:
            until = time.perf_counter_ns() + options.burn_us * 1000
            while time.perf_counter_ns() < until:
                pass
            self.transport.write(self.answer())
        elif not options.silent:
            self.transport.write(self.answer())

    def answer(self) -> bytes:
        if self.options.canned:
            return CANNED
        wrong = self.options.wrong_every and self.faults.served % self.options.wrong_every == 0
        factor = 3 if wrong else 2
        if not self.json_bytes:
            given = json.loads(self.body)["inputs"][0]
            values = [factor * value for value in given["data"]]
            described = {"name": "y", "datatype": "FP32", "shape": given["shape"], "data": values}
            body = json.dumps({"model_name": "null", "outputs": [described]}).encode()
            return head("200 OK", len(body)) + body
        given = json.loads(self.body[: self.json_bytes])["inputs"][0]
        raw = (np.frombuffer(self.body[self.json_bytes :], np.float32) * factor).tobytes()
        described = {
            "name": "y",
            "datatype": "FP32",
            "shape": given["shape"],
            "parameters": {"binary_data_size": len(raw)},
        }
        text = json.dumps({"model_name": "null", "outputs": [described]}).encode()
        more = f"Inference-Header-Content-Length: {len(text)}\r\n"
        return head("200 OK", len(text) + len(raw), more) + text + raw

    def write(self, status: str, body: bytes) -> None:
        self.transport.write(head(status, len(body)) + body)


async def serve(options: argparse.Namespace) -> None:
    faults = Faults(options)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(faults), "127.0.0.1", options.port)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    for name in ("port", "delay_ms", "burn_us", "stall_ms", "stall_after", "error_every"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=0)
    for name in ("disconnect_every", "refuse_above", "wrong_every"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=0)
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--canned", action="store_true")
    return parser


@contextmanager
def null_server(**flags: Any) -> Iterator[str]:
    """Start one in a process of its own; yields its URL."""
    words = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in flags.items()
    ]
    with subprocess.Popen(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.kill()


if __name__ == "__main__":
    uvloop.run(serve(options().parse_args()))
