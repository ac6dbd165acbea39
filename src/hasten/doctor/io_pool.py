"""How many threads a pool needs whose tasks wait: for files, for the network.

Source: Goetz et al., "Java Concurrency in Practice", section 8.2: N * U * (1 + W/C) for N cores, a
wanted utilisation U, and the ratio of waiting to computing. W and C are measured: a task's time on
the clock is W + C, and its thread's processor time is C.
"""

from __future__ import annotations

import io
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from hasten.errors import DataError, MissingExtraError, OptionError, one_line

__all__ = ["IoPool", "Task", "measured", "pool_size", "size_io_pool", "tasks_of"]

#: One unit of work of the pool, done once.
Task = Callable[[], Any]

_IMAGES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}
_AT_MOST = 64
_REQUESTS = 16
_TIMEOUT_S = 30.0


class IoPool(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured and what follows: all the numbers of N * U * (1 + W/C).

    Times are means of a task, in milliseconds; ``ratio`` is W/C.
    """

    source: str
    does: str
    tasks: int
    wait_ms: float
    compute_ms: float
    ratio: float
    cores: int
    utilization: float
    size: int

    def __str__(self) -> str:
        return (
            f"{self.cores} x {self.utilization:g} x (1 + {self.wait_ms:.3f} ms /"
            f" {self.compute_ms:.3f} ms) = {self.size} threads"
        )


def pool_size(cores: int, utilization: float, ratio: float) -> int:
    """Return N * U * (1 + W/C), rounded up and at least 1.

    >>> pool_size(cores=4, utilization=0.5, ratio=9.0)
    20
    """
    return max(1, math.ceil(cores * utilization * (1 + ratio) - 1e-9))


def size_io_pool(
    source: str,
    *,
    cores: int,
    utilization: float = 1.0,
    wall_ns: Callable[[], int] = time.perf_counter_ns,
    processor_ns: Callable[[], int] = time.thread_time_ns,
) -> IoPool:
    """Do a sample of tasks one by one and measure how long each waits and computes.

    ``source`` is a folder, whose files are read from disk and, where they are images, decoded; a
    file; or an http(s) URL, which is fetched. Raises DataError for what cannot be read,
    MissingExtraError for images without Pillow, OptionError for a utilization outside (0, 1].
    """
    if not 0 < utilization <= 1:
        raise OptionError(
            expected="a utilization above 0, up to 1", got=f"{utilization:g}", where="--utilization"
        )
    does, tasks = tasks_of(source)
    wall, processor = measured(tasks, wall_ns, processor_ns)
    count = len(tasks)
    compute_ns = max(processor, 1)
    wait_ns = max(0, wall - processor)
    return IoPool(
        source=source,
        does=does,
        tasks=count,
        wait_ms=wait_ns / count / 1e6,
        compute_ms=compute_ns / count / 1e6,
        ratio=wait_ns / compute_ns,
        cores=cores,
        utilization=utilization,
        size=pool_size(cores, utilization, wait_ns / compute_ns),
    )


def measured(
    tasks: Iterable[Task], wall_ns: Callable[[], int], processor_ns: Callable[[], int]
) -> tuple[int, int]:
    """Return the sums of time on the clock and of this thread's processor time."""
    wall = processor = 0
    for task in tasks:
        wall_begin, processor_begin = wall_ns(), processor_ns()
        task()
        processor += processor_ns() - processor_begin
        wall += wall_ns() - wall_begin
    return wall, processor


def tasks_of(source: str) -> tuple[str, list[Task]]:
    """Return what a task does in words, and a sample of tasks."""
    if source.startswith(("http://", "https://")):
        return f"fetch {source}", [lambda: _fetch(source)] * _REQUESTS
    path = Path(source)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    if not files:
        got = "a folder without files" if path.is_dir() else "no such file or folder"
        raise DataError(expected="files or an http(s) URL", got=got, where=source)
    # Spread over the whole folder: neighbours may lie in one place on the disk.
    sample = files[:: max(1, len(files) // _AT_MOST)][:_AT_MOST]
    if any(file.suffix.lower() in _IMAGES for file in sample):
        _require_pillow(source)
        return "read from disk and decode", [_decoding(file) for file in sample]
    return "read from disk", [_reading(file) for file in sample]


def _reading(path: Path) -> Task:
    return lambda: _read(path)


def _decoding(path: Path) -> Task:
    return lambda: _decode(path)


def _read(path: Path) -> bytes:
    """Read a file from disk: what the kernel has of it in memory is dropped first."""
    try:
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            return file.readall()
    except OSError as error:
        got = error.strerror or str(error)
        raise DataError(expected="a file that can be read", got=got, where=str(path)) from None


def _decode(path: Path) -> None:
    content = _read(path)
    if path.suffix.lower() not in _IMAGES:
        return
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            image.convert("RGB")
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise DataError(expected="an image", got=one_line(error), where=str(path)) from None


def _require_pillow(where: str) -> None:
    try:
        import PIL.Image  # noqa: F401 - only whether it is there
    except ImportError:
        raise MissingExtraError("images", needed_by=where) from None


def _fetch(url: str) -> bytes:
    try:
        # tasks_of lets http and https through only.
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:  # noqa: S310
            content: bytes = response.read()
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise DataError(expected="a URL that answers", got=one_line(error), where=url) from None
    return content
