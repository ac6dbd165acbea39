"""Triton's model_config.proto, from the package that Triton publishes it in."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from hasten.errors import MissingExtraError, ModelError, one_line

__all__ = ["parse_proto"]

#: Read as a file: importing its package wants grpcio, which nothing here needs.
_FILE = "grpc/model_config_pb2.py"


def parse_proto(text: str, where: str) -> Any:
    """Return the ModelConfig message that this text in protobuf's text format is.

    Raises ModelError with the line and column of what is wrong, MissingExtraError without
    tritonclient or protobuf.
    """
    definition = _definition(where)
    from google.protobuf import text_format  # type: ignore[import-untyped]

    try:
        return text_format.Parse(text, definition.ModelConfig())
    except text_format.ParseError as error:
        raise ModelError(
            expected="a config.pbtxt of Triton's ModelConfig",
            got=one_line(error).removeprefix("ParseError: "),
            where=where,
        ) from None


def _definition(where: str) -> Any:
    spec = importlib.util.find_spec("tritonclient")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise MissingExtraError("triton", needed_by=where)
    try:
        return _loaded(Path(folders[0]) / _FILE)
    except (OSError, ImportError, TypeError, _version_error()) as error:
        raise ModelError(
            expected="tritonclient and a protobuf that fits it",
            got=one_line(error),
            where=where,
            hint="run: pip install -U 'hasten[triton]'",
        ) from error


def _version_error() -> type[Exception]:
    """Return what generated code raises when protobuf is older than it."""
    try:
        from google.protobuf import runtime_version
    except ImportError:  # protobuf before 5.26, or none
        return ImportError
    found: type[Exception] = runtime_version.VersionError
    return found


@cache
def _loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("hasten_triton_model_config", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python module at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
