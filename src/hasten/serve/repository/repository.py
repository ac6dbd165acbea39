"""What a path holds that can be served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hasten.bundle import is_bundle
from hasten.errors import ModelError
from hasten.serve.repository.bundles import open_bundle
from hasten.serve.repository.entry import CONFIG, is_entry, open_entry
from hasten.serve.repository.layers import given, merged, with_batch
from hasten.serve.repository.model_file import file_version, is_model_file
from hasten.serve.repository.servable import Servable, require_name
from hasten.serve.repository.versions import chosen_versions

__all__ = ["find_models"]

_SERVED = "a bundle, a .onnx or .tflite file, a folder of them, or a Triton repository"


def find_models(path: str | Path, settings_json: bytes | str | None = None) -> list[Servable]:
    """Return the models at a path, sorted by name.

    PATH is a bundle, a model file, a folder of either, one entry of a Triton repository or a whole
    one. ``settings_json`` is laid over the settings that each model brings. Names that begin with
    a dot are passed over.

    Raises an InputError in one line for anything that is a model and cannot be served.
    """
    root = Path(path)
    user = given(settings_json, "--config")
    where = str(root)
    try:
        root.stat()
        found = _found(root, user)
    except OSError as error:
        got = error.strerror or str(error)
        raise ModelError(expected=_SERVED, got=got, where=str(error.filename or root)) from None
    except ValueError as error:  # a null byte
        raise ModelError(expected=_SERVED, got=str(error), where=repr(where)) from None
    if not found:
        raise ModelError(expected=_SERVED, got="a folder without any", where=where)
    _require_distinct(found)
    return [model for model, _ in sorted(found, key=lambda one: one[0].name)]


def _found(root: Path, user: Mapping[str, Any]) -> list[tuple[Servable, Path]]:
    if not root.is_dir():
        return [(_of_file(root, user), root)]
    if is_bundle(root) or is_entry(root):
        return [(_of_folder(root, user), root)]
    children = [child for child in sorted(root.iterdir()) if not child.name.startswith(".")]
    models: list[tuple[Servable, Path]] = []
    for child in children:
        child.stat()  # a link that leads nowhere, or in circles, is an error of its own
        if child.is_dir():
            models.append((_of_folder(child, user), child))
        elif is_model_file(child):
            models.append((_of_file(child, user), child))
    return models


def _of_folder(folder: Path, user: Mapping[str, Any]) -> Servable:
    if is_bundle(folder):
        return open_bundle(folder, user)
    if is_entry(folder):
        return open_entry(folder, user)
    raise ModelError(
        expected=f"a bundle, or an entry of a Triton repository ({CONFIG} and folders 1, 2, ...)",
        got="a folder with neither",
        where=str(folder),
    )


def _of_file(path: Path, user: Mapping[str, Any]) -> Servable:
    where = str(path)
    name = require_name(path.stem, where)
    chosen_versions([1], None, user, where)
    source = file_version(path)
    settings, notes = with_batch(merged(user, where=where), source.lowered.signature)
    return Servable(name=name, versions={1: source}, settings=settings, notes=notes)


def _require_distinct(found: Iterable[tuple[Servable, Path]]) -> None:
    places: dict[str, Path] = {}
    for model, path in found:
        if model.name in places:
            raise ModelError(
                expected="models with names of their own",
                got=f"two named {model.name!r}",
                where=f"{places[model.name]} and {path}",
            )
        places[model.name] = path
