"""What one request costs in memory: bytes allocated at once, and copies of a large input.

Run: python benchmarks/zero_copy.py. An image of 588 kB goes over a real socket to the server's own
connection class and to a plain one that is written the usual way: bytes added to bytes until the
body is there, an array made from it, stacked into a batch, and the answer joined before it is sent.
Both run the same network behind the same runtime, which returns an image as large. The most memory
that was taken at any moment of a request, divided by the size of the image, is the number of its
copies that existed at once (tracemalloc; the client's own are left out).
"""

from __future__ import annotations

import asyncio
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import onnx
import uvloop
from onnx import TensorProto, helper

from figures import Figure, report
from hasten.runtimes import Execution, Session, get_runtime
from hasten.serve.http.server import Server
from hasten.serve.repository.repository import find_models

_SIDE = 224
_REQUESTS = 40
_END = b"\r\n\r\n"


#: Serves until the function that it leaves in the list is called; tells its port.
Serve = Callable[[Callable[[int], None], list[Callable[[], Any]]], None]


class Cost(NamedTuple):
    """Of one request: the most bytes that were taken at once, and the time."""

    peak_bytes: float
    time_ns: float


def main() -> int:
    """Send the same requests to both."""
    image = np.random.default_rng(0).random((1, 3, _SIDE, _SIDE), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "image.onnx"
        onnx.save(_model(), model)
        costs = {
            "ours": _cost(partial(_ours, model), _request(image), image.nbytes),
            "the usual way": _cost(partial(_usual, model), _request(image), image.nbytes),
        }
    copies = {}
    for name, cost in costs.items():
        copies[name] = cost.peak_bytes / image.nbytes
        print(
            f"{name:<14} {copies[name]:5.2f} images of {image.nbytes:,} bytes at once,"
            f" {cost.time_ns / 1e3:8.0f} us a request"
        )
    ratio = copies["ours"] / copies["the usual way"]
    faster = costs["the usual way"].time_ns / costs["ours"].time_ns
    return report(
        [
            Figure("memory at once / the usual way's", f"{ratio:.2f}", "<= 0.7", ratio <= 0.7),
            Figure("times as fast as the usual way", f"{faster:.2f}x", ">= 1", faster >= 1),
        ]
    )


def _model() -> onnx.ModelProto:
    shape: list[str | int | None] = ["n", 3, _SIDE, _SIDE]
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])],
        "image",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _request(image: np.ndarray) -> bytes:
    tensor = {
        "name": "x",
        "shape": list(image.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": image.nbytes},
    }
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    head = (
        "POST /v2/models/image/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\n"
        f"Content-Length: {len(text) + image.nbytes}\r\n\r\n"
    )
    return head.encode() + text + image.tobytes()


def _cost(serve: Serve, request: bytes, size: int) -> Cost:
    """Serve in a thread, ask from this one, and measure each request between them."""
    port: list[int] = []
    ready = threading.Event()
    stop: list[Callable[[], Any]] = []

    def started(number: int) -> None:
        port.append(number)
        ready.set()

    thread = threading.Thread(target=serve, args=(started, stop), daemon=True)
    thread.start()
    ready.wait()
    answer = bytearray(size + 4096)
    with socket.create_connection(("127.0.0.1", port[0])) as client:
        times = [_ask(client, request, answer) for _ in range(_REQUESTS)]
        tracemalloc.start()
        peaks = []
        for _ in range(_REQUESTS):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            _ask(client, request, answer)
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()
    stop[0]()
    thread.join()
    return Cost(statistics.median(peaks), statistics.median(times[5:]))


def _ask(client: socket.socket, request: bytes, answer: bytearray) -> int:
    begin = time.perf_counter_ns()
    client.sendall(request)
    view, filled, wanted = memoryview(answer), 0, len(answer)
    while filled < wanted:
        filled += client.recv_into(view[filled:])
        end = answer.find(_END, 0, 1024)
        if end >= 0 and wanted == len(answer):
            head = bytes(answer[:end]).lower()
            wanted = end + 4 + int(head.partition(b"\r\ncontent-length: ")[2].split()[0])
    return time.perf_counter_ns() - begin


def _ours(model: Path, started: Callable[[int], None], stop: list[Callable[[], Any]]) -> None:
    async def run() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(done.set))
        server = Server(lambda: find_models(model), port=0)
        async with server.serving() as port:
            started(port)
            await done.wait()

    uvloop.run(run())


class _Usual(asyncio.Protocol):
    """A server as it is usually written."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(_END)
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if not end or len(body) < int(fields[b"Content-Length"]):
            return
        self._data = b""
        length = int(fields[b"Inference-Header-Content-Length"])
        (tensor,) = json.loads(body[:length])["inputs"]
        array = np.array(np.frombuffer(body[length:], np.float32)).reshape(tensor["shape"])
        batch = np.stack([array[0]])
        output = self._session.run({"x": batch})["y"]
        raw = output.tobytes()
        described = {
            "name": "y",
            "datatype": "FP32",
            "shape": list(output.shape),
            "parameters": {"binary_data_size": len(raw)},
        }
        text = json.dumps({"model_name": "image", "outputs": [described]}).encode()
        answer = (
            f"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: {len(text)}\r\n"
            f"Content-Length: {len(text) + len(raw)}\r\n\r\n"
        ).encode()
        self._transport.write(answer + text + raw)


def _usual(model: Path, started: Callable[[int], None], stop: list[Callable[[], Any]]) -> None:
    async def run() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        stop.append(lambda: loop.call_soon_threadsafe(done.set))
        (place,) = find_models(model).places.values()
        servable = place.open()
        runtime = get_runtime("onnxruntime")
        session = runtime.open(servable.versions[1].lowered, Execution())
        server = await loop.create_server(lambda: _Usual(session), "127.0.0.1", 0)
        started(server.sockets[0].getsockname()[1])
        await done.wait()
        server.close()

    uvloop.run(run())


if __name__ == "__main__":
    sys.exit(main())
