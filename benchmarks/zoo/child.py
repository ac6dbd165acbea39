"""The process in which one architecture is measured: rows are written as soon as they are known.

Run by ``visit``: ``python -m zoo.child NAME OUT PART...``. Each line of OUT is a row in JSON, or
the name of a part in quotes, which is done.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import torch

from hasten.errors import HastenError, one_line
from zoo import deployed, harmless, int8, prunable, trainable
from zoo.catalogue import ARCHITECTURES
from zoo.row import PARTS, Row
from zoo.subject import Subject

__all__ = ["main"]

_MEASURES: dict[str, Callable[[Subject], Iterator[Row]]] = dict(
    zip(
        PARTS,
        (
            trainable.measure,
            deployed.measure,
            prunable.measure,
            int8.measure,
            harmless.measure,
        ),
        strict=True,
    )
)
#: What a part is called that ended before it could give its first figure.
_FIRST = {"deployed": "deployed on onnxruntime"}


def main(name: str, out: Path, parts: list[str]) -> None:
    """Measure the parts one after another."""
    torch.set_num_threads(1)
    encode = msgspec.json.encode
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder, out.open("ab", 0) as file:
        subject = Subject.of(ARCHITECTURES[name], Path(folder))
        for part in parts:
            for row in _measured(subject, part):
                file.write(encode(row) + b"\n")
            file.write(encode(part) + b"\n")


def _measured(subject: Subject, part: str) -> Iterator[Row]:
    """Yield the part's rows, and one of what it ended in where that was an error."""
    begin = time.monotonic()
    given = 0
    try:
        for row in _MEASURES[part](subject):
            given += 1
            yield msgspec.structs.replace(row, seconds=time.monotonic() - begin)
            begin = time.monotonic()
    except Exception as error:  # noqa: BLE001 - that nothing else is raised is what is measured
        refused = isinstance(error, HastenError)
        where = "" if refused else f" - at {_place(error)}"
        what = _FIRST.get(part, part) if not given else f"rest of {part}"
        yield Row(
            subject.architecture.name,
            what,
            "refused" if refused else "traceback",
            reason=(str(error) if refused else one_line(error)) + where,
            seconds=time.monotonic() - begin,
        )


def _place(error: BaseException) -> str:
    """Return the last line of Hasten's own code that was on the stack."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/hasten/" in frame.filename] or frames
    return f"{'/'.join(Path(ours[-1].filename).parts[-3:])}:{ours[-1].lineno}"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
