"""What a path holds that can be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any

from hasten.bundle import Bundle, OpenBundle, is_bundle
from hasten.errors import InputError, ModelError
from hasten.serve.repository.bundles import open_bundle
from hasten.serve.repository.entry import CONFIG, is_entry, open_entry
from hasten.serve.repository.layers import given, merged, with_batch
from hasten.serve.repository.model_file import file_version, is_model_file
from hasten.serve.repository.servable import Found, Servable, require_name
from hasten.serve.repository.versions import chosen_versions

__all__ = ["find_all", "find_models"]

_NAME = attrgetter("name")
_SERVED = "a bundle, a .onnx or .tflite file, a folder of them, or a Triton repository"


def find_models(
    path: str | Path,
    settings_json: bytes | str | None = None,
    opened: OpenBundle = Bundle.open,
) -> Found:
    """Return what is at a path.

    PATH is a bundle, a model file, a folder of either, one entry of a Triton repository or a whole
    one. ``settings_json`` is laid over the settings that each model brings, and ``opened`` opens
    bundles. Names that begin with a dot are passed over.

    Raises an InputError in one line where the path is a model that cannot be served, or holds
    none. In a folder of several such a model is among those refused, and harms no other.
    """
    root = Path(path)
    user = given(settings_json, "--config")
    try:
        root.stat()
        if root.is_dir() and not (is_bundle(root) or is_entry(root)):
            return _of_models(root, user, opened)
        model = _model(root, user, opened)
    except (OSError, ValueError) as error:
        raise _unreadable(root, error) from None
    return Found((model,), named=frozenset({model.name}))


def find_all(
    paths: Sequence[Path],
    settings_json: bytes | str | None = None,
    opened: OpenBundle = Bundle.open,
) -> Found:
    """Return what is at several paths; raises what ``find_models`` does, and for names in two."""
    found = [find_models(path, settings_json, opened) for path in paths]
    models = sorted((model for one in found for model in one.models), key=_NAME)
    names = [model.name for model in models]
    if len(set(names)) < len(names):
        raise _two_named(next(one for one in names if names.count(one) > 1), *paths)
    refused: dict[str, InputError] = {}
    for one in found:
        refused |= one.refused
    return Found(tuple(models), refused, frozenset().union(*(one.named for one in found)))


def _of_models(root: Path, user: Mapping[str, Any], opened: OpenBundle) -> Found:
    """Return all models in a folder, those that cannot be served by the name of their place."""
    places: dict[str, list[Path]] = {}
    models: dict[str, Servable] = {}
    refused: dict[str, InputError] = {}
    for child in sorted(root.iterdir()):
        if child.name.startswith("."):
            continue
        is_file = is_model_file(child)
        try:
            child.stat()  # a link that leads nowhere, or in circles, is an error of its own
            is_file = is_file and not child.is_dir()
            if not (is_file or child.is_dir()):
                continue
            model = _model(child, user, opened)
            places.setdefault(model.name, []).append(child)
            models[model.name] = model
        except InputError as error:
            refused[child.stem if is_file else child.name] = error
        except OSError as error:
            refused[child.stem if is_file else child.name] = _unreadable(child, error)
    for name, where in places.items():
        if len(where) > 1:
            del models[name]
            refused[name] = _two_named(name, *where)
    if not models and not refused:
        raise ModelError(expected=_SERVED, got="a folder without any", where=str(root))
    return Found(tuple(sorted(models.values(), key=_NAME)), refused)


def _model(path: Path, user: Mapping[str, Any], opened: OpenBundle) -> Servable:
    if not path.is_dir():
        return _of_file(path, user)
    if is_bundle(path):
        return open_bundle(path, user, opened)
    if is_entry(path):
        return open_entry(path, user, opened)
    raise ModelError(
        expected=f"a bundle, or an entry of a Triton repository ({CONFIG} and folders 1, 2, ...)",
        got="a folder with neither",
        where=str(path),
    )


def _of_file(path: Path, user: Mapping[str, Any]) -> Servable:
    where = str(path)
    name = require_name(path.stem, where)
    chosen_versions([1], None, user, where)
    source = file_version(path)
    settings, notes = with_batch(merged(user, where=where), source.lowered.signature)
    return Servable(name=name, versions={1: source}, settings=settings, notes=notes)


def _unreadable(path: Path, error: OSError | ValueError) -> ModelError:
    """Say why there is nothing to be read; a ValueError is a null byte in the path."""
    if isinstance(error, OSError):
        where = str(error.filename or path)
        return ModelError(expected=_SERVED, got=error.strerror or str(error), where=where)
    return ModelError(expected=_SERVED, got=str(error), where=repr(str(path)))


def _two_named(name: str, *places: Path) -> ModelError:
    return ModelError(
        expected="models with names of their own",
        got=f"two named {name!r}",
        where=" and ".join(map(str, places)),
    )
