"""``hasten serve``: bundles, model files or a Triton repository over HTTP."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Literal

from hasten.cli.options import megabytes, seconds
from hasten.errors import OptionError
from hasten.serve.engine.cache import ResponseCache
from hasten.serve.engine.request import Request
from hasten.serve.http.server import Limits, Server
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
        What the bodies of all connections may hold together, in megabytes; a quarter of the
        memory by default.
    transfer_timeout
        Hang up on a client that takes longer to send a request, or to take an answer: 30s, 5m.
    grace
        After Ctrl-C or SIGTERM, end within this time though requests still run: 10s, 5m.
    """
    import uvloop

    begin = perf_counter()
    if not paths:
        raise OptionError(expected="a path to serve", got="none", where="hasten serve PATH...")
    if not 0 <= http_port <= _PORTS:
        raise OptionError(
            expected=f"a port from 0 to {_PORTS}", got=str(http_port), where="--http-port"
        )
    settings = _read(config) if config else None
    limits = _limits(body_mb, body_memory_mb, transfer_timeout)
    limits = replace(limits, grace_s=seconds(grace, "--grace"))
    cache: ResponseCache[Request] | None = None
    cache_bytes = megabytes(cache_mb, "--cache-mb")
    if cache_bytes:
        ttl_ns = int(seconds(cache_ttl, "--cache-ttl") * 1e9) if cache_ttl else None
        cache = ResponseCache(cache_bytes, policy=cache_policy, ttl_ns=ttl_ns)
    server = Server(
        partial(find_all, paths, settings), host=host, port=http_port, limits=limits, cache=cache
    )

    def started(port: int) -> None:
        for note in server.loader.notes:
            sys.stderr.write(f"hasten: {note}\n")
        for model in server.engine:
            sys.stderr.write(f"hasten: {model.describe()}\n")
        shown = f"[{host}]" if ":" in host else host
        sys.stdout.write(f"ready at http://{shown}:{port} in {perf_counter() - begin:.2f} s\n")
        sys.stdout.flush()

    uvloop.run(server.run(started))
    return 0


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
    try:
        return path.read_bytes()
    except OSError as error:
        raise OptionError(
            expected="a JSON file of serving settings",
            got=error.strerror or str(error),
            where=f"--config {path}",
        ) from error
