"""What a path holds that can be served."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hasten.bundle import Bundle, OpenBundle, is_bundle, read_manifest
from hasten.errors import InputError, ModelError
from hasten.serve.repository.bundles import open_bundle
from hasten.serve.repository.entry import CONFIG, entry_name, is_entry, open_entry
from hasten.serve.repository.layers import given, merged, with_batch
from hasten.serve.repository.model_file import file_version, is_model_file
from hasten.serve.repository.servable import (
    SERVED,
    Found,
    Place,
    Servable,
    require_name,
    unreadable,
)
from hasten.serve.repository.versions import chosen_versions

__all__ = ["find_all", "find_models"]


def find_models(
    path: str | Path,
    settings_json: bytes | str | None = None,
    opened: OpenBundle = Bundle.open,
) -> Found:
    """Return what is at a path, by name; no model file is read before its place is opened.

    PATH is a bundle, a model file, a folder of either, one entry of a Triton repository or a whole
    one. ``settings_json`` is laid over the settings that each model brings, and ``opened`` opens
    bundles. Names that begin with a dot are passed over.

    Raises an InputError in one line where the path is no model, or holds none. In a folder of
    several such a one is among those refused, and harms no other.
    """
    root = Path(path)
    user = given(settings_json, "--config")
    try:
        root.stat()
        if root.is_dir() and not (is_bundle(root) or is_entry(root)):
            return _of_models(root, user, opened)
        place = _place(root, user, opened)
    except (OSError, ValueError) as error:
        raise unreadable(root, error) from None
    return Found({place.name: place}, named=frozenset({place.name}))


def find_all(
    paths: Sequence[Path],
    settings_json: bytes | str | None = None,
    opened: OpenBundle = Bundle.open,
) -> Found:
    """Return what is at several paths; raises what ``find_models`` does, and for names in two."""
    places: dict[str, Place] = {}
    refused: dict[str, InputError] = {}
    named: set[str] = set()
    for path in paths:
        found = find_models(path, settings_json, opened)
        if twice := places.keys() & found.places.keys():
            raise _two_named(min(twice), *paths)
        places |= found.places
        refused |= found.refused
        named |= found.named
    return Found(dict(sorted(places.items())), refused, frozenset(named))


def _of_models(root: Path, user: Mapping[str, Any], opened: OpenBundle) -> Found:
    """Return all models in a folder, those that cannot be served by the name of their place."""
    places: dict[str, list[Place]] = {}
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
            place = _place(child, user, opened)
            places.setdefault(place.name, []).append(place)
        except InputError as error:
            refused[child.stem if is_file else child.name] = error
        except OSError as error:
            refused[child.stem if is_file else child.name] = unreadable(child, error)
    for name, several in places.items():
        if len(several) > 1:
            refused[name] = _two_named(name, *(place.path for place in several))
    if not places and not refused:
        raise ModelError(expected=SERVED, got="a folder without any", where=str(root))
    alone = {name: several[0] for name, several in places.items() if len(several) == 1}
    return Found(dict(sorted(alone.items())), refused)


def _place(path: Path, user: Mapping[str, Any], opened: OpenBundle) -> Place:
    """Return the place of a model, whose name its path or its bundle tells."""
    if not path.is_dir():
        return Place(require_name(path.stem, str(path)), path, partial(_of_file, path, user))
    if is_bundle(path):
        name = require_name(read_manifest(path).name, str(path))
        return Place(name, path, partial(open_bundle, path, user, opened))
    if is_entry(path):
        return Place(entry_name(path), path, partial(open_entry, path, user, opened))
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


def _two_named(name: str, *places: Path) -> ModelError:
    return ModelError(
        expected="models with names of their own",
        got=f"two named {name!r}",
        where=" and ".join(map(str, places)),
    )
