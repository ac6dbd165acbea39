"""What one hostile request does to all others: health's slowest answer, and the server's memory.

Run: python benchmarks/serving_hostile.py [NAME ...]. Each of the requests is made against a server
of its own kind of trouble, one after another, while another connection asks for health every 5 ms.
The server may hold 256 MB of bodies, and as much of answers. Exits 1 where health takes more than
50 ms (beyond what it takes while nothing is asked, for a busy machine), memory grows by more than
its bound, or the server does not answer a plain request afterwards.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from figures import Figure, report
from own_server import OwnServer

_HEALTH_S, _EVERY_S, _LONGEST_S = 0.050, 0.005, 20.0
_BODIES_MB = 256
#: Two budgets, and what objects and allocators hold beside them.
_MEMORY_MB = 2 * _BODIES_MB + 256
_MB = 1 << 20
_MODELS = 100
Address = tuple[str, int]


class Hostile(NamedTuple):
    """Bytes that are sent on so many connections."""

    name: str
    data: Callable[[], bytes]
    connections: int = 1
    #: What the kernel takes of the answers, where it is little.
    reads: int = 0


def main(names: list[str]) -> int:
    """Make all requests, or those named; print a line for each."""
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        _put_models(Path(folder))
        flags = ("--body-memory-mb", str(_BODIES_MB), "--transfer-timeout", "10s")
        with OwnServer(Path(folder), None, *flags) as own:
            parts = urlsplit(own.url)
            address = (parts.hostname or "", parts.port or 0)
            idle = _health(address, lambda: time.sleep(2.0))
            print(f"health while nothing is asked: {idle * 1e3:.1f} ms at most", flush=True)
            for one in HOSTILE:
                if not names or one.name in names:
                    figures.append(_measured(one, own, address, max(0.0, idle)))
                    print(figures[-1].what, figures[-1].figure, flush=True)
    print(f"{len(figures)} hostile requests")
    return report(figures)


def _measured(one: Hostile, own: OwnServer, address: Address, idle_s: float) -> Figure:
    before, most = own.resident_bytes, 0
    sockets: list[socket.socket] = []
    data = one.data()

    def send() -> None:
        sockets.extend(_sent(address, data, one.connections, one.reads))

    def run() -> None:
        nonlocal most
        sending = threading.Thread(target=send)
        sending.start()
        until = time.monotonic() + _LONGEST_S
        while time.monotonic() < until and (sending.is_alive() or not _answered(sockets)):
            most = max(most, own.resident_bytes)
            time.sleep(0.01)
        most = max(most, own.resident_bytes)

    slowest = _health(address, run)
    for each in sockets:
        each.close()
    grown = (most - before) / _MB
    met = slowest <= _HEALTH_S + idle_s and grown <= _MEMORY_MB and _plain(address)
    figure = f"{slowest * 1e3:.1f} ms, {grown:+.0f} MB"
    return Figure(one.name, figure, f"<= 50 ms, {_MEMORY_MB} MB", met)


def _answered(sockets: list[socket.socket]) -> bool:
    """Whether something has come on each, or its other end has gone."""
    for each in sockets:
        each.setblocking(False)
        try:
            each.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            continue
    return True


def _health(address: Address, work: Callable[[], None]) -> float:
    """Return the slowest answer of health while work is done, in seconds."""
    # A process of its own: this one is busy with what it sends.
    command = [sys.executable, __file__, "--health", *map(str, address)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as asking:
        assert asking.stdout is not None
        asking.stdout.readline()  # it has begun
        work()
        said, _ = asking.communicate("")
    return float(said)


def _ask_health(host: str, port: int) -> None:
    """Ask again and again until stdin ends, and print the slowest answer."""
    over = threading.Thread(target=sys.stdin.read, daemon=True)
    client = http.client.HTTPConnection(host, port, timeout=60)
    slowest = 0.0
    over.start()
    print("asking", flush=True)
    while over.is_alive():
        begin = time.perf_counter()
        client.request("GET", "/v2/health/live")
        client.getresponse().read()
        slowest = max(slowest, time.perf_counter() - begin)
        time.sleep(_EVERY_S)
    print(slowest, flush=True)


def _plain(address: Address) -> bool:
    client = http.client.HTTPConnection(*address, timeout=30)
    client.request("POST", "/v2/models/small/infer", _json("[1,2,3,4]", [1, 4]))
    return client.getresponse().status == 200


def _put_models(folder: Path) -> None:
    scale = numpy_helper.from_array(np.array(2, np.float32), "scale")
    double = helper.make_node("Mul", ["x", "scale"], ["y"])
    wide = numpy_helper.from_array(np.array([1, _MB], np.int64), "wide")
    spread = helper.make_node("Expand", ["x", "wide"], ["y"])
    same = helper.make_node("Identity", ["x"], ["y"])
    _put(folder / "small.onnx", double, ["n", 4], ["n", 4], TensorProto.FLOAT, scale)
    _put(folder / "free.onnx", double, ["n", "m"], ["n", "m"], TensorProto.FLOAT, scale)
    _put(folder / "spread.onnx", spread, ["n", 1], ["n", _MB], TensorProto.FLOAT, wide)
    _put(folder / "texts.onnx", same, ["n", "m"], ["n", "m"], TensorProto.STRING)
    for at in range(_MODELS):
        _put(folder / f"m{at}.onnx", double, ["n", 4], ["n", 4], TensorProto.FLOAT, scale)


def _put(
    path: Path,
    node: onnx.NodeProto,
    given: list[str | int],
    made: list[str | int],
    kind: int,
    *constants: onnx.TensorProto,
) -> None:
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", kind, given)],
        [helper.make_tensor_value_info("y", kind, made)],
        list(constants),
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


# Requests


def _json(data: str, shape: list[int], datatype: str = "FP32", more: str = "") -> bytes:
    tensor = f'{{"name":"x","shape":{json.dumps(shape)},"datatype":"{datatype}","data":{data}}}'
    return f'{{{more}"inputs":[{tensor}]}}'.encode()


def _post(model: str, body: bytes, *lines: str) -> bytes:
    head = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: a", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode() + body


def _sent(address: Address, data: bytes, count: int, reads: int) -> list[socket.socket]:
    """Send bytes on so many connections; ``reads`` bounds what the kernel takes of the answers."""
    opened = []
    for _ in range(count):
        one = socket.create_connection(address, timeout=_LONGEST_S)
        if reads:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, reads)
        opened.append(one)
        with contextlib.suppress(OSError):
            one.sendall(data)
    return opened


def _long(model: str, data: str, shape: list[int], datatype: str = "FP32") -> bytes:
    return _post(model, _json(data, shape, datatype))


def _bomb(plain: bytes, encoding: str = "gzip") -> bytes:
    packed = gzip.compress(plain, 9) if encoding == "gzip" else zlib.compress(plain, 9)
    return _post("free", packed, f"Content-Encoding: {encoding}")


def _binary(model: str, header: bytes, behind: bytes) -> bytes:
    return _post(model, header + behind, f"Inference-Header-Content-Length: {len(header)}")


def _texts(count: int) -> bytes:
    behind = struct.pack("<I", 0) * count
    tensor: dict[str, object] = {"name": "x", "shape": [1, count], "datatype": "BYTES"}
    tensor["parameters"] = {"binary_data_size": len(behind)}
    return _binary("texts", json.dumps({"inputs": [tensor]}).encode(), behind)


def _chunks(piece: bytes, count: int) -> bytes:
    head = "POST /v2/models/free/infer HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + (b"%x\r\n%b\r\n" % (len(piece), piece)) * count + b"0\r\n\r\n"


def _get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()


def _spread(rows: int, *, binary: bool) -> bytes:
    more = f'"parameters":{{"binary_data_output":{json.dumps(binary)}}},'
    return _post("spread", _json(json.dumps([1] * rows), [rows, 1], more=more))


_N = 60 * _MB
_PROMISE = b"POST /v2/models/free/infer HTTP/1.1\r\nHost: a\r\nContent-Length: 60000000\r\n\r\n{"


def _all() -> Iterator[Hostile]:
    yield Hostile(
        "zeros in JSON, 60 MB", lambda: _long("free", f"[{'0,' * (_N // 2)}0]", [1, _N // 2 + 1])
    )
    yield Hostile(
        "zeros in JSON, of another shape", lambda: _long("small", f"[{'0,' * (_N // 2)}0]", [1, 4])
    )
    yield Hostile(
        "rows of one, 60 MB", lambda: _long("free", f"[{'[0],' * (_N // 4)}[0]]", [_N // 4 + 1, 1])
    )
    yield Hostile(
        "deep rows, 60 MB",
        lambda: _long("free", f"[{('[' * 500 + ']' * 500 + ',') * (_N // 1001)}0]", [1, 1]),
    )
    yield Hostile("brackets that open, 60 MB", lambda: _long("free", "[" * _N, [1, 1]))
    yield Hostile("brackets beside the data", lambda: _post("free", b'{"a":' + b"[" * _N))
    yield Hostile("keys beside the data", lambda: _post("free", b"{" + b'"a":1,' * (_N // 6)))
    yield Hostile("blanks, 60 MB", lambda: _post("free", b" " * _N))
    yield Hostile("blanks between numbers", lambda: _long("free", f"[{' ' * _N}0]", [1, 1]))
    yield Hostile("one number of 60 MB", lambda: _long("free", f"[{'1' * _N}]", [1, 1]))
    yield Hostile("one text of 60 MB", lambda: _long("texts", f'["{"a" * _N}"]', [1, 1], "BYTES"))
    yield Hostile(
        "a text of backslashes", lambda: _long("texts", '["' + "\\" * _N + '"]', [1, 1], "BYTES")
    )
    yield Hostile(
        "a text of quotation marks",
        lambda: _long("texts", '["' + '\\"' * (_N // 2) + '"]', [1, 1], "BYTES"),
    )
    yield Hostile("a text without end", lambda: _long("texts", '["' + "a" * _N, [1, 1], "BYTES"))
    yield Hostile(
        "short texts, 20 MB",
        lambda: _long("texts", "[" + '"a",' * (5 * _MB) + '"a"]', [1, 5 * _MB + 1], "BYTES"),
    )
    yield Hostile("texts in bytes, 20 MB", lambda: _texts(5 * _MB))
    yield Hostile(
        "inputs without number",
        lambda: _post("free", b'{"inputs":[' + b'{"name":"x"},' * (_N // 13)),
    )
    yield Hostile(
        "a long header before bytes", lambda: _binary("free", b'{"inputs":[' + b" " * _N, b"1234")
    )
    yield Hostile("gzip of zeros", lambda: _bomb(bytes(64_000_000)))
    yield Hostile("gzip of JSON", lambda: _bomb(_json(f"[{'0,' * (_N // 2)}0]", [1, _N // 2 + 1])))
    yield Hostile("gzip of brackets", lambda: _bomb(b"[" * _N))
    yield Hostile("deflate of blanks", lambda: _bomb(b" " * _N, "deflate"))
    yield Hostile("gzip, 16 at once", lambda: _bomb(_json(f"[{'0,' * (_N // 2)}0]", [1, 1])), 16)
    yield Hostile("chunks of two bytes, 4 MB", lambda: _chunks(b"AA", 2 * _MB))
    yield Hostile("chunks of one byte, 16 at once", lambda: _chunks(b"A", _MB // 4), 16)
    yield Hostile(
        "a chunk that never ends", lambda: _chunks(b"A" * 100, 1)[:-7] + b"fffff\r\n" + b"A" * _MB
    )
    yield Hostile("bodies that are promised, 99 times", lambda: _PROMISE, 99)
    yield Hostile("a head without end", lambda: b"GET / HTTP/1.1\r\nX: " + b"a" * (10 * _MB))
    yield Hostile("a head of many lines", lambda: b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * (2 * _MB))
    yield Hostile("metrics, 20,000 in a row", lambda: _get("/metrics") * 20_000, 1, 4096)
    yield Hostile("metrics, from 100 connections", lambda: _get("/metrics"), 100)
    yield Hostile("the page, 20,000 in a row", lambda: _get("/") * 20_000, 1, 4096)
    yield Hostile("statistics, from 100 connections", lambda: _get("/v2/models/stats"), 100)
    yield Hostile("large answers that nobody reads", lambda: _spread(4, binary=True) * 64, 8, 4096)
    yield Hostile("large answers in JSON", lambda: _spread(8, binary=False))
    yield Hostile(
        "large answers in JSON that nobody reads", lambda: _spread(1, binary=False) * 64, 8, 4096
    )


HOSTILE = tuple(_all())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--health"]:
        _ask_health(sys.argv[2], int(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
