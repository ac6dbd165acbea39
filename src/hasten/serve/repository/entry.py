"""An entry of a Triton repository: MODEL/config.pbtxt and MODEL/VERSION/model.onnx or .tflite.

Source: "Model Repository" in Triton's user guide. A version may also be a bundle.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from hasten.bundle import Bundle, OpenBundle, is_bundle
from hasten.errors import ModelError
from hasten.serve.repository.config_pbtxt import ModelConfig, read_config
from hasten.serve.repository.layers import changed, merged, planned, with_batch
from hasten.serve.repository.model_file import (
    MODEL_FILES,
    bundle_version,
    file_version,
    require_file,
)
from hasten.serve.repository.servable import Servable, VersionSource, require_name
from hasten.serve.repository.tensors import fitted, labels_of, offered
from hasten.serve.repository.versions import chosen_versions, version_folders, version_number

__all__ = ["CONFIG", "entry_name", "is_entry", "open_entry"]

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class _Opened:
    """A version, and what its bundle says of serving."""

    source: VersionSource
    serving: Mapping[str, Any]
    preprocessing: Mapping[str, Any]


def is_entry(folder: Path) -> bool:
    """Whether this folder describes a model: it has a config.pbtxt or folders of versions."""
    return os.path.lexists(folder / CONFIG) or any(
        version_number(child) and child.is_dir() for child in folder.iterdir()
    )


def entry_name(folder: Path) -> str:
    """Return the name of an entry's model; raises ModelError for one that is no part of a URL."""
    # Not resolve(): a model that is a link has the name of the link.
    return require_name(Path(os.path.abspath(folder)).name, str(folder))


def open_entry(
    folder: Path, user: Mapping[str, Any], open_one: OpenBundle = Bundle.open
) -> Servable:
    """Open the versions that are to be served; ``user`` is the JSON form that goes on top.

    Raises ModelError for what cannot be served, BundleError for a damaged bundle, OptionError for
    settings that contradict one another.
    """
    name = entry_name(folder)
    path = folder / CONFIG
    config = read_config(path) if os.path.lexists(path) else None
    if config and config.name not in {"", name}:
        raise ModelError(
            expected=f"the name of its folder, {name!r}", got=repr(config.name), where=str(path)
        )
    numbers, not_versions = version_folders(folder)
    chosen, missing = chosen_versions(numbers, config, user, str(folder))
    opened = {number: _opened(folder / str(number), config, open_one) for number in chosen}
    newest = opened[max(chosen)]
    usual = _usual(config, newest.source)
    settings = merged(newest.serving, usual, user, where=str(folder))
    if len(chosen) > 1 and settings.version_policy == "latest":  # Triton's num_versions
        settings = msgspec.structs.replace(settings, version_policy=tuple(chosen))
    signature = newest.source.lowered.signature
    settings, fixed = with_batch(settings, signature, offered(config, signature))
    return Servable(
        name=name,
        versions={number: one.source for number, one in opened.items()},
        settings=settings,
        notes=(*not_versions, *missing, *fixed, *(config.notes if config else ())),
        config=config,
        labels=labels_of(config, folder) if config else {},
        preprocessing=dict(newest.preprocessing),
    )


def _opened(folder: Path, config: ModelConfig | None, open_one: OpenBundle) -> _Opened:
    if is_bundle(folder):
        bundle = open_one(folder)
        serving = planned(bundle.manifest, str(folder))
        preprocessing = bundle.manifest.plan.serving.get("preprocessing", {})
        source = bundle_version(bundle)
        if config and config.runtime not in {"", source.runtime}:
            raise ModelError(
                expected=f"the runtime of its bundle, {source.runtime}",
                got=f"backend {config.backend or config.platform!r}",
                where=config.where,
            )
    else:
        serving, preprocessing = {}, {}
        source = file_version(_model_file(folder, config), config.runtime if config else "")
    if config:
        signature = fitted(config, source.lowered.signature, source.lowered.path)
        lowered = msgspec.structs.replace(source.lowered, signature=signature)
        source = replace(source, lowered=lowered)
    return _Opened(source, serving, preprocessing)


def _model_file(folder: Path, config: ModelConfig | None) -> Path:
    """Return the model file of a version's folder: the one that is named, or the usual one."""
    if config and config.default_model_filename:
        path = folder / config.default_model_filename
        require_file(path, "the default_model_filename of config.pbtxt")
        return path
    usual = [f"model{suffix}" for suffix in MODEL_FILES]
    found = [folder / name for name in usual if (folder / name).exists()]
    if len(found) != 1:
        there = sorted(child.name for child in folder.iterdir())
        raise ModelError(
            expected=f"one of {', '.join(usual)} or a bundle",
            got=", ".join(there[:5]) or "an empty folder",
            where=str(folder),
            hint="config.pbtxt may name another file as default_model_filename",
        )
    (path,) = found
    # As in Triton, a folder of that name may hold the model together with its weights.
    return path / path.name if path.is_dir() else path


def _usual(config: ModelConfig | None, newest: VersionSource) -> dict[str, Any]:
    """Return the settings of config.pbtxt, less the batch where it leaves that to the model."""
    if config is None:
        return {}
    layer = changed(config.settings)
    if config.leaves_batch_open and newest.lowered.signature.batchable:
        # Triton's auto-complete batches what it can, and then dynamically.
        del layer["max_batch_size"]
        if config.settings.dynamic_batching is None:
            del layer["dynamic_batching"]
    return layer
