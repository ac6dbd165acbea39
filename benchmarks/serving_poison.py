"""Sixteen clients beside one whose inputs make every batch fail that they are in.

Run: python benchmarks/serving_poison.py. Each network computes something that fails for some
values: a look-up, a division, a text that is no number, a guard against NaN. The sixteen are
connections with one request at a time each; the bad one is a seventeenth, which keeps its
connection or opens one for each request. All are one process. Rounds with it and without it take
turns on one server, in an order drawn anew; each block has a server of its own. The ratio is of the
sixteen's rates. Exits 1 unless none of their requests fails, and they keep 0.8 of their rate.
"""

from __future__ import annotations

import json
import random
import selectors
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from figures import Figure, report
from hasten.measure.statistics import speedup
from own_server import OwnServer

__all__ = ["main"]

_CLIENTS, _BLOCKS, _ROUNDS, _SECONDS, _KEPT = 16, 3, 6, 0.4, 0.8
_PATIENCE_S = 30.0
_NARROW, _WIDE = 256, 2048
_PLACES = 8


class Case(NamedTuple):
    """A network, and the values of a row that it answers and of one that makes it fail."""

    network: onnx.ModelProto
    good: np.ndarray
    bad: np.ndarray


def cases() -> dict[str, Case]:
    """Networks that fail for some values of x[n,8]; what they compute goes through two layers."""
    node = helper.make_node
    whole, number, text = TensorProto.INT64, TensorProto.FLOAT, TensorProto.STRING
    seven = numpy_helper.from_array(np.array(7, np.int64), "seven")
    table = numpy_helper.from_array(np.ones(10, np.float32), "table")
    zero = numpy_helper.from_array(np.array("0", object), "zero")
    look_up = [node("Gather", ["table", "x"], ["e"])]
    divide = [
        node("Add", ["x", "seven"], ["more"]),
        node("Div", ["seven", "more"], ["whole"]),
        node("Cast", ["whole"], ["e"], to=number),
    ]
    parse = [
        node("StringConcat", ["x", "zero"], ["digits"]),
        node("Cast", ["digits"], ["e"], to=number),
    ]
    guard = [
        node("IsNaN", ["x"], ["none"]),
        node("Cast", ["none"], ["flag"], to=whole),
        node("Mul", ["flag", "seven"], ["far"]),
        node("Add", ["flag", "far"], ["at"]),
        node("Add", ["at", "far"], ["beyond"]),
        node("Gather", ["table", "beyond"], ["e"]),
    ]
    ints = (np.full(_PLACES, 1, np.int64), np.full(_PLACES, 999, np.int64))
    floats = (np.ones(_PLACES, np.float32), np.full(_PLACES, np.nan, np.float32))
    return {
        "look-up": Case(_network(look_up, whole, [table], _NARROW), *ints),
        "look-up, wide layers": Case(_network(look_up, whole, [table], _WIDE), *ints),
        "division": Case(_network(divide, whole, [seven], _NARROW), ints[0], 0 * ints[0] - 7),
        "text": Case(
            _network(parse, text, [zero], _NARROW),
            np.full(_PLACES, "7", object),
            np.full(_PLACES, "seven", object),
        ),
        "NaN guard": Case(_network(guard, number, [table, seven], _NARROW), *floats),
    }


def _network(
    nodes: Sequence[onnx.NodeProto], kind: int, values: list[onnx.TensorProto], width: int
) -> onnx.ModelProto:
    draw = np.random.default_rng(0)
    shapes = {"first": (_PLACES, width), "second": (width, width), "third": (width, 4)}
    values = values + [
        numpy_helper.from_array(draw.normal(0, 0.05, shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    layers = [
        helper.make_node("MatMul", ["e", "first"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("MatMul", ["d", "third"], ["y"]),
    ]
    taken = helper.make_tensor_value_info("x", kind, ["n", _PLACES])
    given = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    graph = helper.make_graph([*nodes, *layers], "net", [taken], [given], values)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def request_of(row: np.ndarray) -> bytes:
    """Return the bytes of an infer request of one row, binary both ways."""
    if row.dtype.hasobject:
        words = [str(word).encode() for word in row]
        data = b"".join(len(word).to_bytes(4, "little") + word for word in words)
        datatype = "BYTES"
    else:
        data, datatype = row.tobytes(), "INT64" if row.dtype == np.int64 else "FP32"
    tensor = {
        "name": "x",
        "shape": [1, len(row)],
        "datatype": datatype,
        "parameters": {"binary_data_size": len(data)},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    lines = [
        "POST /v2/models/net/infer HTTP/1.1",
        "Host: bench",
        f"Inference-Header-Content-Length: {len(head)}",
        f"Content-Length: {len(head) + len(data)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + head + data


def _whole(received: bytearray) -> bool:
    """Whether these bytes are a whole answer."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return False
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
    return len(body) >= int(length)


class Clients:
    """Connections with one request at a time each; those of the bad one are not counted."""

    def __init__(self, address: tuple[str, int], case: Case, *, anew: bool) -> None:
        self._address = address
        self._good, self._bad = request_of(case.good), request_of(case.bad)
        self._anew = anew

    def rate(self, *, beside_bad: bool) -> tuple[float, int]:
        """Return answers a second of the good ones together, and how many were not 200."""
        answered = failed = 0
        with selectors.DefaultSelector() as selector:
            for at in range(_CLIENTS + beside_bad):
                self._open(selector, self._good if at < _CLIENTS else self._bad)
            begin = time.perf_counter()
            # A machine that is busy with others may let a round pass without any answer.
            while time.perf_counter() - begin < (_SECONDS if answered else _PATIENCE_S):
                for key, _ in selector.select(timeout=_SECONDS):
                    request, received = key.data
                    one = key.fileobj
                    assert isinstance(one, socket.socket)
                    received += one.recv(65_536)
                    if not _whole(received):
                        continue
                    status, received[:] = received[9:12], b""
                    if request is self._good:
                        answered += 1
                        failed += status != b"200"
                    else:
                        assert status == b"400", f"the bad client was answered {status.decode()}"
                    if request is self._bad and self._anew:
                        selector.unregister(one)
                        one.close()
                        self._open(selector, request)
                    else:
                        one.sendall(request)
            seconds = time.perf_counter() - begin
            assert answered, f"no answer within {_PATIENCE_S} s"
            for key in list(selector.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
        return answered / seconds, failed

    def _open(self, selector: selectors.BaseSelector, request: bytes) -> None:
        one = socket.create_connection(self._address)
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(one, selectors.EVENT_READ, (request, bytearray()))
        one.sendall(request)


def measured(case: Case, order: random.Random, *, anew: bool) -> tuple[Figure, Figure]:
    """Race with the bad client against without it."""
    seconds: dict[bool, list[list[float]]] = {True: [], False: []}
    rates: dict[bool, list[float]] = {True: [], False: []}
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        onnx.save(case.network, path)
        for _ in range(_BLOCKS):
            with OwnServer(path) as server:
                host, _, port = server.url.removeprefix("http://").rpartition(":")
                clients = Clients((host, int(port)), case, anew=anew)
                block: dict[bool, list[float]] = {True: [], False: []}
                for _ in range(_ROUNDS):
                    for beside in order.sample([True, False], 2):
                        rate, wrong = clients.rate(beside_bad=beside)
                        block[beside].append(1 / rate)
                        rates[beside].append(rate)
                        failed += wrong
                for beside, times in block.items():
                    seconds[beside].append(times)
    kept = speedup(seconds[False], seconds[True])
    medians = [f"{float(np.median(rates[beside])):,.0f}" for beside in (False, True)]
    words = f"{medians[0]} -> {medians[1]}/s, {kept}"
    return (
        Figure("rate without -> with", words, f">= {_KEPT}", kept.median >= _KEPT),
        Figure("good requests that failed", f"{failed:,}", "0", failed == 0),
    )


def main() -> int:
    """Print the figures of each network; 1 where one misses."""
    order, figures = random.Random(0), []  # noqa: S311 - an order of rounds, not a secret
    for name, case in cases().items():
        for anew in (False, True):
            way = "a connection for each bad request" if anew else "one bad connection"
            found = measured(case, order, anew=anew)
            figures += [one._replace(what=f"{name}, {way}: {one.what}") for one in found]
    return report(figures)


if __name__ == "__main__":
    sys.exit(main())
