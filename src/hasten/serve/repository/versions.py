"""Versions of a model: folders named by their numbers, and the policy of which are served.

Source: "Version Policy" in Triton's user guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hasten.errors import ModelError
from hasten.serve.repository.config_pbtxt import ModelConfig

__all__ = ["chosen_versions", "version_folders", "version_number"]


def version_number(folder: Path) -> int:
    """Return the number that a version's folder is named by, from 1; else 0.

    >>> version_number(Path("12")), version_number(Path("012")), version_number(Path("v2"))
    (12, 0, 0)
    """
    name = folder.name
    plain = name.isascii() and name.isdecimal() and not name.startswith("0")
    return int(name) if plain and len(name) <= len(str(2**63)) - 1 else 0


def version_folders(folder: Path) -> tuple[list[int], tuple[str, ...]]:
    """Return the versions of a model in ascending order, and notes on folders that are none.

    Raises ModelError where there is no version.
    """
    folders = [
        child for child in sorted(folder.iterdir()) if child.is_dir() and child.name[0] != "."
    ]
    numbers = sorted(number for child in folders if (number := version_number(child)))
    others = [child.name for child in folders if not version_number(child)]
    if not numbers:
        raise ModelError(
            expected="a version in a folder named by its number, such as 1",
            got=f"only {', '.join(others)}" if others else "no folder",
            where=str(folder),
        )
    notes = tuple(f"folder {name} is no version, which is a number from 1" for name in others)
    return numbers, notes


def chosen_versions(
    numbers: list[int], config: ModelConfig | None, user: Mapping[str, Any], where: str
) -> tuple[list[int], tuple[str, ...]]:
    """Return which of these versions are served, and a note on those that are asked for in vain.

    ``user`` is the JSON form of settings, whose ``version_policy`` goes before that of
    config.pbtxt. Raises ModelError where the policy leaves none.
    """
    latest = config.latest if config else 1
    policy = config.settings.version_policy if config else "latest"
    if "version_policy" in user:
        policy, latest = user["version_policy"], 1
    if policy == "all":
        return numbers, ()
    if policy == "latest":
        return numbers[-latest:], ()
    found = [number for number in numbers if number in policy]
    if not found:
        raise ModelError(
            expected=f"a version_policy that serves one of {numbers}",
            got=str(list(policy)),
            where=where,
        )
    missing = sorted(set(policy) - set(numbers))
    return found, (f"version_policy names {missing}, which are not there",) if missing else ()
