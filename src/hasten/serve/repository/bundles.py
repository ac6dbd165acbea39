"""A bundle as a model of one version, with what its config.pbtxt was changed to by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from hasten.bundle import Bundle, OpenBundle
from hasten.bundle.config_pbtxt import config_pbtxt
from hasten.errors import BundleError
from hasten.serve.repository.config_pbtxt import ModelConfig, read_config
from hasten.serve.repository.layers import changed, merged, planned, with_batch
from hasten.serve.repository.model_file import bundle_version
from hasten.serve.repository.servable import Servable, require_name
from hasten.serve.repository.tensors import fitted, labels_of, offered
from hasten.serve.repository.versions import chosen_versions, version_number

__all__ = ["open_bundle"]


def open_bundle(
    folder: Path, user: Mapping[str, Any], opened: OpenBundle = Bundle.open
) -> Servable:
    """Open a bundle; ``user`` is the JSON form of settings that goes on top of its own.

    Its config.pbtxt says what its plan says, and is read only where it was changed since. Raises
    BundleError for a damaged bundle, ModelError and OptionError for what was changed to something
    that is not served, MissingExtraError where that cannot be read.
    """
    where = str(folder)
    bundle = opened(folder)
    manifest = bundle.manifest
    chosen_versions([1], None, user, where)
    source = bundle_version(bundle)
    config = _edited(bundle)
    if config:
        signature = fitted(config, source.lowered.signature, source.lowered.path)
        lowered = msgspec.structs.replace(source.lowered, signature=signature)
        source = replace(source, lowered=lowered)
    layers = planned(manifest, where), _layer(config, manifest.plan.serving), user
    signature = source.lowered.signature
    settings, fixed = with_batch(
        merged(*layers, where=where), signature, offered(config, signature)
    )
    return Servable(
        name=require_name(manifest.name, where),
        versions={1: source},
        settings=settings,
        notes=(*bundle.notes, *fixed, *_other_versions(folder), *(config.notes if config else ())),
        config=config,
        labels=labels_of(config, folder) if config else {},
        preprocessing=dict(manifest.plan.serving.get("preprocessing", {})),
    )


def _edited(bundle: Bundle) -> ModelConfig | None:
    """Read config.pbtxt if it is not as the bundle was written with."""
    path = bundle.path / "config.pbtxt"
    manifest = bundle.manifest
    written = config_pbtxt(manifest).encode()
    if not os.path.lexists(path) or (path.is_file() and path.read_bytes() == written):
        return None
    config = read_config(path)
    file = manifest.artifact.file.rpartition("/")[2]
    for field, own in (
        ("name", manifest.name),
        ("runtime", manifest.plan.runtime),
        ("default_model_filename", file),
    ):
        said = getattr(config, field)
        if said not in {"", own} and not (said == "pytorch" and own == "torch-compile"):
            raise BundleError(
                expected=f"{field} {own!r} as in bundle.json", got=repr(said), where=str(path)
            )
    return config


def _layer(config: ModelConfig | None, serving: Mapping[str, Any]) -> dict[str, Any]:
    """Return what config.pbtxt changes of a plan's settings."""
    if config is None:
        return {}
    layer = changed(config.settings)
    if config.settings.dynamic_batching is None:  # a bundle is written without, and batches
        del layer["dynamic_batching"]
    if layer.get("max_batch_size") == serving.get("max_batch_size"):
        layer.pop("max_batch_size", None)
    return layer


def _other_versions(folder: Path) -> list[str]:
    others = [child.name for child in sorted(folder.iterdir()) if version_number(child) > 1]
    return [f"{name} is no part of the bundle, which is one version" for name in others]
