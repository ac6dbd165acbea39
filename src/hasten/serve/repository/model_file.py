"""One version of a model on disk: a model file or a bundle, opened where it lies.

A model file is read once, to be checked and digested; the runtime then opens the same file, which
is never copied.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hasten.bundle import Bundle
from hasten.errors import ModelError
from hasten.graph import Model, read_onnx, read_tflite
from hasten.graph.rows import UNREAD, RowVerdict
from hasten.measure.environment import physical_cores
from hasten.runtimes import Execution, Format, Lowered, get_runtime
from hasten.serve.repository.servable import VersionSource

__all__ = ["MODEL_FILES", "bundle_version", "file_version", "is_model_file", "require_file"]

#: By suffix: how a file is read, and the runtime that runs it unless another is asked for.
MODEL_FILES: dict[str, tuple[Format, Callable[[Path], Model], str]] = {
    ".onnx": ("onnx", read_onnx, "onnxruntime"),
    ".tflite": ("tflite", read_tflite, "litert"),
}


def is_model_file(path: Path) -> bool:
    """Whether the name is that of a model file that can be served as it is."""
    return path.suffix.lower() in MODEL_FILES


def require_file(path: Path, expected: str) -> None:
    """Raise ModelError unless there is a regular file here, or a link that leads to one."""
    try:
        path.stat()
    except OSError as error:
        raise ModelError(
            expected=expected, got=error.strerror or str(error), where=str(path)
        ) from None
    except ValueError as error:  # a null byte
        raise ModelError(expected=expected, got=str(error), where=repr(path)) from None
    if not path.is_file():
        got = "a folder" if path.is_dir() else "something that is no regular file"
        raise ModelError(expected=expected, got=got, where=str(path))


def file_version(path: Path, runtime: str = "") -> VersionSource:
    """Read, check and digest a model file; ``runtime`` is one of ours, or empty for the usual one.

    It runs with one instance, and a thread a core or one in all. Raises ModelError for what cannot
    be read, or is of a format that the runtime does not open.
    """
    require_file(path, "a model file: .onnx or .tflite")
    if not is_model_file(path):
        raise ModelError(
            expected="a model file: .onnx or .tflite",
            got=f"a {path.suffix} file" if path.suffix else "a file without suffix",
            where=str(path),
            hint="hasten optimize makes a bundle of other models",
        )
    kind, read, usual = MODEL_FILES[path.suffix.lower()]
    chosen = runtime or usual
    if kind not in get_runtime(chosen).reads:
        raise ModelError(
            expected=f"a file that {chosen} reads", got=f"a .{kind} file", where=str(path)
        )
    read_model = read(path)
    model = read_model.original
    lowered = Lowered(str(path.resolve()), kind, model.signature)
    cores, batch = physical_cores(), model.signature.batch or 1
    alternatives = (Execution(threads=1, batch=batch),) if cores > 1 else ()
    execution = Execution(threads=cores, batch=batch)
    rows = read_model.rows
    return VersionSource(lowered, chosen, execution, model.digest, alternatives, rows)


def bundle_version(bundle: Bundle) -> VersionSource:
    """Return what a bundle holds, as its plan runs it; ``Bundle.open`` has checked its digest."""
    manifest = bundle.manifest
    return VersionSource(
        bundle.lowered,
        manifest.plan.runtime,
        bundle.execution,
        manifest.artifact.sha256,
        rows=_rows_of_bundle(bundle),
        report=bundle.path / "report.html",
    )


def _rows_of_bundle(bundle: Bundle) -> RowVerdict:
    """Return what was found when the bundle was written, or read its graph where it is older."""
    artifact, lowered = bundle.manifest.artifact, bundle.lowered
    if artifact.rows is not None or not bundle.manifest.signature.batchable:
        return artifact.rows or UNREAD
    suffix = f".{artifact.format}"
    return MODEL_FILES[suffix][1](Path(lowered.path)).rows if suffix in MODEL_FILES else UNREAD
