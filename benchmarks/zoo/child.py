"""The process in which one architecture is measured: rows are written as soon as they are known.

Run by ``visit``: ``python -m zoo.child NAME OUT PART...``. The last row of each part is "done".
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from hasten.errors import HastenError, one_line
from zoo import deployed, harmless, int8, prunable, trainable
from zoo.catalogue import ARCHITECTURES
from zoo.row import DONE, PARTS, Finding, Row, append_row
from zoo.subject import Subject

__all__ = ["main"]

_MEASURES: dict[str, Callable[[Subject], Iterator[Finding]]] = dict(
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
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        subject = Subject.of(ARCHITECTURES[name], Path(folder))
        for part in parts:
            for row in _measured(subject, part):
                append_row(out, row)
            append_row(out, Row(name, part, DONE, "met"))


def _measured(subject: Subject, part: str) -> Iterator[Row]:
    """Yield what the part finds, and where it ended in an error, that."""
    name, begin = subject.architecture.name, time.monotonic()
    for found in _found(subject, part):
        now = time.monotonic()
        yield Row(name, part, *found, seconds=now - begin)
        begin = now


def _found(subject: Subject, part: str) -> Iterator[Finding]:
    given = 0
    try:
        for found in _MEASURES[part](subject):
            given += 1
            yield found
    except HastenError as error:
        yield Finding(_ended(part, given), "refused", reason=str(error))
    except Exception as error:  # noqa: BLE001 - that nothing else is raised is what is measured
        reason = f"{one_line(error)} - at {_place(error)}"
        yield Finding(_ended(part, given), "traceback", reason=reason)


def _ended(part: str, given: int) -> str:
    """Return what was not found: the first thing of the part, or what comes after the others."""
    return f"rest of {part}" if given else _FIRST.get(part, part)


def _place(error: BaseException) -> str:
    """Return the last line of Hasten's own code that was on the stack."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/hasten/" in frame.filename] or frames
    return f"{'/'.join(Path(ours[-1].filename).parts[-3:])}:{ours[-1].lineno}"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
