"""Memory that training keeps instead of giving it back and asking for it anew at every step."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["kept_memory"]

#: Parameters of mallopt, and the values they have by themselves (mallopt(3)).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_USUAL = {_TRIM_THRESHOLD: 128 * 2**10, _TOP_PAD: 128 * 2**10, _MMAP_MAX: 65_536}
#: Never trim, grow by much at once, and take nothing from outside the heap.
_KEPT = {_TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20, _MMAP_MAX: 0}


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let the C library keep freed memory for the next allocation, until the end of the block.

    Activations of a minibatch are tens of megabytes each. glibc maps such a piece anew each time,
    and the system clears it page by page, which takes a third of the time of a step on a CPU. At
    the end all that is free goes back. With another C library nothing is changed.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt") or not hasattr(library, "malloc_trim"):
        yield
        return
    _set(library, _KEPT)
    try:
        yield
    finally:
        _set(library, _USUAL)
        library.malloc_trim(ctypes.c_size_t(0))


def _set(library: ctypes.CDLL, options: dict[int, int]) -> None:
    for option, value in options.items():
        library.mallopt(ctypes.c_int(option), ctypes.c_int(value))
