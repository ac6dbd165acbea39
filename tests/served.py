"""A real ``hasten serve`` in a process of its own, and a client that writes bytes to its socket."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Self

from command_line import Done, finish, start

__all__ = [
    "EXPLICIT",
    "PATIENCE_S",
    "Answer",
    "Client",
    "Connect",
    "Served",
    "eventually",
    "executions",
    "message",
    "serving",
    "side_by_side",
]

#: Lets clients load and unload.
EXPLICIT = ("--model-control-mode", "explicit")
_READY = re.compile(r"ready at http://(\S+):(\d+) in")
#: More than any answer takes, far less than anyone waits for a hang.
PATIENCE_S = 30.0


class Answer(NamedTuple):
    """One HTTP response; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def complaint(self) -> str:
        """The one sentence of an error."""
        document = self.document
        assert list(document) == ["error"]
        sentence = document["error"]
        assert isinstance(sentence, str)
        assert "\n" not in sentence
        return sentence


def message(method: str, path: str, body: bytes = b"", **headers: object) -> bytes:
    """Return the bytes of a request; underscores in names of headers stand for dashes.

    A body has its Content-Length, unless that is among the headers: None leaves it out.
    """
    if body or method == "POST":
        headers = {"Content_Length": len(body)} | headers
    lines = [f"{method} {path} HTTP/1.1", "Host: test"]
    lines += [
        f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value is not None
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Client:
    """One connection."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self.socket.sendall(data)

    def receive(self, *, bodiless: bool = False) -> Answer:
        """Read one response; one that is ``bodiless`` answers a HEAD request."""
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            assert name.lower() not in headers, f"two headers {name}"
            headers[name.lower()] = value.strip()
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        length = 0 if bodiless else int(headers.get("content-length", 0))
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return Answer(int(status), headers, body)

    def _more(self) -> None:
        data = self.socket.recv(1 << 20)
        if not data:
            raise EOFError(f"the server hung up after {self._received!r}")
        self._received += data

    def raw(self, data: bytes) -> Answer:
        """Send bytes and read one response."""
        self.send(data)
        return self.receive()

    def get(self, path: str, **headers: object) -> Answer:
        """Ask with GET."""
        return self.raw(message("GET", path, b"", **headers))

    def post(self, path: str, body: bytes = b"", **headers: object) -> Answer:
        """Ask with POST."""
        return self.raw(message("POST", path, body, **headers))

    @property
    def ended(self) -> bool:
        """Whether the server has hung up, and said nothing more; waits for it."""
        try:
            return not self._received and not self.socket.recv(1)
        except ConnectionResetError:
            return True


Connect = Callable[[], Client]


@dataclass
class Served:
    """A server that is ready."""

    process: subprocess.Popen[str]
    host: str
    port: int

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def url(self) -> str:
        return f"{self.host}:{self.port}"

    def connect(self) -> Client:
        return Client(self.address)

    def get(self, path: str) -> Answer:
        """Ask with GET on a connection of its own."""
        with self.connect() as client:
            return client.get(path)

    def raw(self, data: bytes) -> Answer:
        """Send bytes on a connection of their own."""
        with self.connect() as client:
            return client.raw(data)

    def post(self, path: str, body: bytes = b"", **headers: object) -> Answer:
        """Ask with POST on a connection of its own."""
        with self.connect() as client:
            return client.post(path, body, **headers)

    def statistics(self, model: str) -> Any:
        """What the first version of a model has done."""
        return self.get(f"/v2/models/{model}/stats").document["model_stats"][0]

    def counted(self, metric: str, model: str) -> float:
        """What a counter of a model stands at in ``/metrics``."""
        text = self.get("/metrics").body.decode()
        found = re.search(rf'^{metric}{{model="{re.escape(model)}",[^}}]*}} (\S+)$', text, re.M)
        assert found is not None, f"no {metric} of {model}"
        return float(found[1])

    def stop(self, sign: signal.Signals = signal.SIGINT) -> Done:
        """Ask it to end, and wait for that."""
        self.process.send_signal(sign)
        return finish(self.process)


@contextlib.contextmanager
def serving(*arguments: object, folder: Path, ready: bool = True) -> Iterator[Served]:
    """Serve what the arguments say, on a free port, once it is ready or once it listens.

    It must end well.
    """
    port = 0 if ready else _free_port()
    process = start("serve", *arguments, "--http-port", port, folder=folder)
    try:
        server = _when_ready(process) if ready else Served(process, "127.0.0.1", port)
        if not ready:
            eventually(lambda: _listens(server))
        yield server
        if process.poll() is None:
            done = server.stop()
            assert done.status == 0, done.err
            assert "Traceback" not in done.err, done.err
    finally:
        process.kill()
        process.wait()


def _when_ready(process: subprocess.Popen[str]) -> Served:
    assert process.stdout is not None
    said = _READY.match(process.stdout.readline())
    if said is None:
        raise AssertionError(finish(process).err)
    return Served(process, said[1], int(said[2]))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _listens(server: Served) -> bool:
    try:
        server.connect().socket.close()
    except ConnectionError:
        return False
    return True


def eventually(is_so: Callable[[], bool]) -> None:
    """Ask until it is so."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until


def executions(server: Served, name: str) -> int:
    count: int = server.statistics(name)["execution_count"]
    return count


def side_by_side(server: Served, requests: Sequence[bytes]) -> list[Answer]:
    """Send each on a connection of its own, all before any answer is read."""
    with contextlib.ExitStack() as opened:
        clients = [opened.enter_context(server.connect()) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.send(request)
        return [client.receive() for client in clients]
