"""``hasten serve``: bundles, model files or a Triton repository over HTTP."""

from __future__ import annotations

import logging
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Literal

from hasten.bundle import Bundle
from hasten.cli.options import Flag, Repeated, megabytes, seconds
from hasten.errors import OptionError
from hasten.plain_file import read_plain, shown
from hasten.printable import printable
from hasten.serve.engine.cache import ResponseCache
from hasten.serve.engine.request import Request
from hasten.serve.http.control import Control, is_loopback, read_token
from hasten.serve.http.server import Access, Limits, Server, shown_host
from hasten.serve.repository.repository import find_all

__all__ = ["serve"]

_PORTS = 65_535


def serve(
    *paths: Path,
    host: str = "127.0.0.1",
    http_port: int = 8000,
    config: Path | None = None,
    cache_mb: float | None = None,
    cache_policy: Literal["lru", "tiny-lfu"] = "lru",
    cache_ttl: str | None = None,
    body_mb: float = 64.0,
    body_memory_mb: float | None = None,
    transfer_timeout: str = "30s",
    grace: str = "10s",
    exit_on_error: Flag = False,
    model_control_mode: Literal["none", "explicit"] = "none",
    serve_files: Flag = False,
    admin_port: int | None = None,
    admin_address: str = "127.0.0.1",
    admin_token_file: Path | None = None,
    allowed_host: Repeated = None,
    trust: Repeated = None,
    delegate: str | None = None,
) -> int:
    """Serve models over HTTP with the V2 protocol, until Ctrl-C or SIGTERM.

    Parameters
    ----------
    paths
        Bundles, model files (.onnx, .tflite), folders of them or Triton repositories.
    host
        The address to listen on.
    http_port
        The port to listen on; 0 takes one that is free.
    config
        A JSON file of serving settings, laid over those that each model brings.
    cache_mb
        Keep responses in so many megabytes, for models whose settings say response_cache.
    cache_policy
        Which responses make room for others.
    cache_ttl
        Keep a response for this long: 90s, 5m.
    body_mb
        The longest body of a request, in megabytes.
    body_memory_mb
        What the bodies of all connections may hold together, and their answers as much again, in
        megabytes; a quarter of the memory by default.
    transfer_timeout
        Hang up on a client that takes longer to send a request, or to take an answer: 30s, 5m.
    grace
        After Ctrl-C or SIGTERM, end within this time though requests still run: 10s, 5m.
    exit_on_error
        End where any model cannot be served, and not only one that PATH leads to itself.
    model_control_mode
        explicit lets clients load and unload models; none, as in Triton, does not.
    serve_files
        Let clients take the files of models, at /v2/models/M/file.
    admin_port
        Allow what the last two allow on this port alone, and nothing of it on --http-port.
    admin_address
        The address of --admin-port; one that others reach needs --admin-token-file.
    admin_token_file
        A file with the token that clients have to send for it, as Authorization: Bearer TOKEN.
    allowed_host
        A name under which browsers find this server, beside addresses and the machine's own.
    trust
        A public key, or a folder of them: bundles signed by one may name a delegate. Repeat for
        more.
    delegate
        The library for bundles that want a LiteRT delegate: lib.so:key=value,key=value.
    """
    import uvloop

    begin = perf_counter()
    if not paths:
        raise OptionError(expected="a path to serve", got="none", where="hasten serve PATH...")
    _require_port(http_port, "--http-port")
    settings = _read(config) if config else None
    limits = _limits(body_mb, body_memory_mb, transfer_timeout)
    limits = replace(limits, grace_s=seconds(grace, "--grace"))
    control = Control(
        loads=model_control_mode == "explicit",
        files=serve_files,
        token=read_token(admin_token_file, "--admin-token-file") if admin_token_file else b"",
    )
    access = _access(control, admin_port, admin_address, allowed_host or [])
    cache: ResponseCache[Request] | None = None
    cache_bytes = megabytes(cache_mb, "--cache-mb")
    if cache_bytes:
        ttl_ns = int(seconds(cache_ttl, "--cache-ttl") * 1e9) if cache_ttl else None
        cache = ResponseCache(cache_bytes, policy=cache_policy, ttl_ns=ttl_ns)
    opened = partial(Bundle.open, trust=tuple(trust or ()), delegate=delegate)
    server = Server(
        partial(find_all, paths, settings, opened),
        host=host,
        port=http_port,
        limits=limits,
        cache=cache,
        exit_on_error=exit_on_error,
        access=access,
        tell=_tell,
    )

    def started(port: int) -> None:
        took = f"{perf_counter() - begin:.2f} s"
        sys.stdout.write(f"ready at http://{shown_host(host)}:{port} in {took}\n")
        sys.stdout.flush()

    _log()
    uvloop.run(server.run(started))
    return 0


class _Log(logging.Formatter):
    """Writes what went wrong as it may be shown, tracebacks included."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record), keep="\n\t")


def _log() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Log())
    logging.getLogger("asyncio").addHandler(handler)


def _require_port(port: int, flag: str) -> None:
    if not 0 <= port <= _PORTS:
        raise OptionError(expected=f"a port from 0 to {_PORTS}", got=str(port), where=flag)


def _access(control: Control, port: int | None, address: str, hosts: list[str]) -> Access:
    """Return who may ask what; raises OptionError for flags that are without effect or unsafe."""
    allows = control.loads or control.files
    if not allows and (port is not None or control.token):
        raise OptionError(
            expected="--model-control-mode explicit or --serve-files, or both",
            got="neither",
            where="--admin-port" if port is not None else "--admin-token-file",
            hint="without them there is nothing to protect",
        )
    if port is None:
        return Access(control, hosts=tuple(hosts))
    _require_port(port, "--admin-port")
    if not (is_loopback(address) or control.token):
        raise OptionError(
            expected="--admin-token-file, since others reach this address",
            got="none",
            where=f"--admin-address {address}",
        )
    return Access(control, (address, port), tuple(hosts))


def _tell(line: str) -> None:
    sys.stderr.write(f"hasten: {printable(line)}\n")


def _limits(body_mb: float, body_memory_mb: float | None, transfer_timeout: str) -> Limits:
    limits = Limits(
        body_bytes=megabytes(body_mb, "--body-mb") or 0,
        transfer_s=seconds(transfer_timeout, "--transfer-timeout"),
    )
    bodies_bytes = megabytes(body_memory_mb, "--body-memory-mb")
    if bodies_bytes is None:
        return limits
    if bodies_bytes < limits.body_bytes:
        raise OptionError(
            expected=f"room for one body at least, which is --body-mb {body_mb:g}",
            got=f"{body_memory_mb:g}",
            where="--body-memory-mb",
        )
    return replace(limits, bodies_bytes=bodies_bytes)


def _read(path: Path) -> bytes:
    expected, where = "a JSON file of serving settings", f"--config {shown(path)}"
    return read_plain(path, expected=expected, where=where)
