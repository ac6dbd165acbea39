"""Finding vendor libraries without loading them, and turning their errors into one line."""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING

from hasten.errors import HastenError, MissingExtraError, RuntimeFailureError, one_line
from hasten.runtimes.runtime import Hint, Lowered, Probe

if TYPE_CHECKING:
    from pathlib import Path

    from hasten.graph import Model

__all__ = ["cpu_flags", "find", "lower_as_file", "reported", "write_once"]


def find(
    module: str,
    package: str,
    extra: str | None = None,
    *,
    hints: tuple[Hint, ...] = ("default",),
    int8_saturates: bool = False,
) -> Probe:
    """Probe an installed package by its metadata alone."""
    if importlib.util.find_spec(module) is not None:
        version = _version(module, package)
        return Probe(available=True, version=version, hints=hints, int8_saturates=int8_saturates)
    install = f"pip install 'hasten[{extra}]'" if extra else f"pip install {package}"
    return Probe(available=False, reason=f"{package} is not installed (run: {install})")


def _version(module: str, package: str) -> str:
    from importlib import metadata  # slow to import, and no worker asks for it

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # from another one, such as onnxruntime-gpu
        names = metadata.packages_distributions().get(module)
        return metadata.version(names[0]) if names else "unknown"


class reported:  # noqa: N801 - used as a statement, like contextlib.suppress
    """Turn whatever a vendor library raises inside into a RuntimeFailureError of one line.

    It holds no state, so a session makes one and enters it on every run: a generator would cost
    a tiny model a tenth of its time.
    """

    __slots__ = ("_doing", "_extra")

    def __init__(self, doing: str, *, extra: str | None = None) -> None:
        self._doing = doing
        self._extra = extra

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, HastenError):
            return
        lacking = isinstance(error, ModuleNotFoundError) and error.name == self._extra
        if self._extra is not None and lacking:  # else it is the model that lacks a module
            raise MissingExtraError(self._extra, needed_by=self._doing) from error
        raise RuntimeFailureError(f"{self._doing}: {one_line(error)}") from error


def lower_as_file(model: Model, folder: Path) -> Lowered:
    """Write the model's own payload, named by its digest, unless it is there already."""
    path = folder / f"{model.digest[:16]}.{model.format}"
    write_once(path, model.payload)
    return Lowered(str(path), model.format, model.signature)


def write_once(path: Path, content: bytes) -> None:
    """Write a file whole, unless it is there: threads may lower one model at the same time."""
    if not path.exists():
        part = path.with_suffix(f".{threading.get_ident()}.part")
        part.write_bytes(content)
        part.replace(path)


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
