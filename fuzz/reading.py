"""Reads changed inputs, one after another, in a process that is watched from outside.

Run by ``fuzz.watch``: ``python -m fuzz.reading TARGET SEED FOLDER``. Before each input is read it
lies in FOLDER, so that it is there when this process is not any more.
"""

from __future__ import annotations

import random
import resource
import sys
import traceback
from pathlib import Path

from fuzz.mutate import mutated
from fuzz.readers import READERS

__all__ = ["BEGUN", "read"]

#: Written once the seeds were read; then a dot for each input.
BEGUN = "b"
#: Beyond what the reader and its libraries take when they have read the seeds.
_MOST_BYTES = 1 << 30


def read(target: str, path: Path) -> str:
    """Read one input; return what is wrong with how it ended, empty where nothing is."""
    from hasten.errors import HastenError

    try:
        READERS[target].read(path)
    except HastenError as error:
        return "" if "\n" not in str(error) and str(error) else f"not one line: {error!r}"
    except BaseException:  # noqa: BLE001 - whatever else comes is the finding
        return traceback.format_exc()
    return ""


def main(target: str, seed: int, folder: Path) -> int:
    """Read changed inputs until this process is ended; 1 once one is a finding."""
    reader = READERS[target]
    seeds = reader.seeds()
    path = folder / reader.name
    for one in seeds:  # what is imported late is imported now, and seeds have to be right
        path.write_bytes(one)
        reader.read(path)
    sys.stdout.write(BEGUN)
    sys.stdout.flush()
    _limit_memory()
    draw = random.Random(seed)  # noqa: S311 - so that a run can be had again
    while True:
        path.write_bytes(mutated(draw, seeds, reader.words))
        wrong = read(target, path)
        if wrong:
            sys.stderr.write(wrong)
            return 1
        sys.stdout.write(".")
        sys.stdout.flush()


def _limit_memory() -> None:
    """Let the address space grow by a gigabyte: beyond, allocations fail and are a finding."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    most = pages * resource.getpagesize() + _MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
