"""One run in tflite-micro's interpreter: micro.py FILE INPUT.npy OUTPUT.npy.

It prints the seconds of a run; the interpreter adds where its arena went. Run by litert.py.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

__all__ = ["main"]

_ARENA_BYTES = 40 << 20


def main(file: Path, given: Path, made: Path) -> None:
    """Run once and keep the output."""
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(file.read_bytes(), arena_size=_ARENA_BYTES)
    interpreter.set_input(np.load(given), 0)
    begin = time.perf_counter()
    interpreter.invoke()
    print(f"seconds {time.perf_counter() - begin:.3f}", flush=True)
    np.save(made, interpreter.get_output(0))
    interpreter.print_allocations()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
