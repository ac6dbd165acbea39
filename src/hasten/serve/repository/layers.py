"""Settings in layers: those of a bundle's plan, of config.pbtxt, and what the user gave on top."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from hasten.bundle import Manifest
from hasten.graph import Signature
from hasten.serve.engine.settings import ServingSettings, parse_settings

__all__ = ["changed", "given", "merged", "planned", "with_batch"]

#: What a plan says of serving that is no setting of the engine.
_NO_SETTINGS = frozenset({"preprocessing"})


def planned(manifest: Manifest, where: str) -> dict[str, Any]:
    """Return the settings that a bundle's plan has, in the JSON form; raises OptionError.

    A ``max_batch_size`` of 1 is left out: such a plan was raced with single requests, which says
    nothing of how large a batch pays when many wait.
    """
    serving = {
        key: value for key, value in manifest.plan.serving.items() if key not in _NO_SETTINGS
    }
    if serving.get("max_batch_size") == 1:
        del serving["max_batch_size"]
    parse_settings(msgspec.json.encode(serving), f"{where}: plan.serving")
    return serving


def changed(settings: ServingSettings) -> dict[str, Any]:
    """Return what differs from the defaults, in the JSON form.

    >>> changed(ServingSettings(max_batch_size=8, version_policy=(1, 3)))
    {'max_batch_size': 8, 'version_policy': (1, 3)}
    """
    usual = ServingSettings()
    return {
        field: msgspec.to_builtins(value, str_keys=True)
        for field, value in msgspec.structs.asdict(settings).items()
        if value != getattr(usual, field)
    }


def given(text: bytes | str | None, where: str) -> dict[str, Any]:
    """Read the user's JSON form and keep only what it sets; raises OptionError.

    >>> given('{"dynamic_batching": {"max_batch_size": 32}}', "--config")
    {'dynamic_batching': {}, 'max_batch_size': 32}
    """
    if text is None:
        return {}
    parse_settings(text, where)
    document: dict[str, Any] = msgspec.json.decode(text)
    batching = document.get("dynamic_batching")
    if isinstance(batching, dict) and "max_batch_size" in batching:
        document.setdefault("max_batch_size", batching.pop("max_batch_size"))
    return document


def merged(*layers: Mapping[str, Any], where: str) -> ServingSettings:
    """Return the settings of all layers, the last one first; nested ones are merged by field.

    Raises OptionError where they contradict one another.
    """
    document: dict[str, Any] = {}
    for layer in layers:
        document = _over(document, layer)
    return parse_settings(msgspec.json.encode(document), where)


def with_batch(
    settings: ServingSettings, *signatures: Signature
) -> tuple[ServingSettings, tuple[str, ...]]:
    """Return the settings without batches where the model takes none, and a note on what was asked.

    A model whose first dimensions are not all free, in each of ``signatures``, is served request
    by request.
    """
    asked = settings.max_batch_size
    if asked == 0 or all(one.batchable for one in signatures):
        return settings, ()
    note = f"max_batch_size {asked} has no effect: the model's first dimensions are not all free"
    alone = msgspec.structs.replace(settings, max_batch_size=0)
    return alone, (note,) if asked else ()


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(below)
    for key, value in above.items():
        beneath = both.get(key)
        nested = isinstance(beneath, Mapping) and isinstance(value, Mapping)
        both[key] = _over(beneath, value) if nested else value  # type: ignore[arg-type]
    return both
