"""Finding vendor libraries without loading them, and turning their errors into one line."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hasten.errors import HastenError, MissingExtraError, RuntimeFailureError
from hasten.runtimes.runtime import Hint, Lowered, Probe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hasten.graph import Model

__all__ = ["cpu_flags", "find", "lower_as_file", "one_line", "reported"]


def find(
    module: str, package: str, extra: str | None = None, hints: tuple[Hint, ...] = ("default",)
) -> Probe:
    """Probe an installed package by its metadata alone."""
    if importlib.util.find_spec(module) is not None:
        return Probe(available=True, version=importlib.metadata.version(package), hints=hints)
    install = f"pip install 'hasten[{extra}]'" if extra else f"pip install {package}"
    return Probe(available=False, reason=f"{package} is not installed (run: {install})")


@contextmanager
def reported(doing: str, *, extra: str | None = None) -> Iterator[None]:
    """Turn whatever a vendor library raises into a RuntimeFailureError of one line."""
    try:
        yield
    except HastenError:
        raise
    except ModuleNotFoundError as error:
        if extra is None:
            raise RuntimeFailureError(f"{doing}: {one_line(error)}") from error
        raise MissingExtraError(extra, needed_by=doing) from error
    except Exception as error:
        raise RuntimeFailureError(f"{doing}: {one_line(error)}") from error


def one_line(error: BaseException, limit: int = 300) -> str:
    """An exception as one line: its type and the words of its message, cut at ``limit``."""
    words = " ".join(str(error).split())
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return text if len(text) <= limit else text[: limit - 1] + "…"


def lower_as_file(model: Model, folder: Path) -> Lowered:
    """Write the model's own payload, named by its digest, unless it is there already."""
    path = folder / f"{model.digest[:16]}.{model.format}"
    if not path.exists():
        part = path.with_suffix(".part")
        part.write_bytes(model.payload)
        part.replace(path)
    return Lowered(str(path), model.format, model.signature)


def cpu_flags() -> frozenset[str]:
    """Instruction-set flags of this processor (``/proc/cpuinfo``); empty where unknown."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key.strip() in {"flags", "Features"}:
                    return frozenset(value.split())
    except OSError:
        return frozenset()
    return frozenset()
