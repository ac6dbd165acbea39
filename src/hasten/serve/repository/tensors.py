"""What config.pbtxt says of inputs and outputs, held against the model file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from hasten.errors import ModelError
from hasten.graph import Signature, TensorSpec
from hasten.plain_file import read_plain_text
from hasten.serve.repository.config_pbtxt import ModelConfig, TensorConfig

__all__ = ["fitted", "labels_of", "offered"]

_MAX_LABEL_BYTES = 64 << 20


def fitted(config: ModelConfig, signature: Signature, where: str) -> Signature:
    """Return the signature of the model file with the dimensions that config.pbtxt fixes.

    What it leaves out is the model's own, as in Triton's auto-complete. Raises ModelError where
    the two contradict one another; ``where`` is the model file.
    """
    batched = bool(config.settings.max_batch_size)
    if batched and not signature.batchable:
        raise ModelError(
            expected="a free first dimension in every input and output",
            got=" and ".join(map(str, (*signature.inputs, *signature.outputs))),
            where=where,
            hint=f"{config.where} sets max_batch_size; 0 serves the model as it is",
        )
    missing = {spec.name for spec in signature.inputs} - {one.name for one in config.inputs}
    if config.inputs and missing:
        raise ModelError(
            expected=f"all inputs of the model in {config.where}",
            got=f"none named {', '.join(sorted(missing))}",
            where=where,
        )
    return Signature(
        _fitted("input", config.inputs, signature.inputs, config, where),
        _fitted("output", config.outputs, signature.outputs, config, where),
    )


def _fitted(
    role: Literal["input", "output"],
    asked: tuple[TensorConfig, ...],
    specs: tuple[TensorSpec, ...],
    config: ModelConfig,
    where: str,
) -> tuple[TensorSpec, ...]:
    by_name = {tensor.name: tensor for tensor in asked}
    unknown = by_name.keys() - {spec.name for spec in specs}
    if unknown:
        raise ModelError(
            expected=f"an {role} of the model: {', '.join(spec.name for spec in specs)}",
            got=", ".join(sorted(unknown)),
            where=f"{config.where} for {where}",
        )
    return tuple(
        _narrowed(spec, by_name[spec.name], role, config) if spec.name in by_name else spec
        for spec in specs
    )


def _narrowed(spec: TensorSpec, asked: TensorConfig, role: str, config: ModelConfig) -> TensorSpec:
    dims = asked.model_dims
    shape = spec.shape
    if dims is not None:
        shape = (None, *dims) if config.settings.max_batch_size else dims
    wanted = TensorSpec(spec.name, asked.dtype or spec.dtype, shape)
    agrees = len(shape) == len(spec.shape) and all(
        have is None or have == want for have, want in zip(spec.shape, shape, strict=True)
    )
    if wanted.dtype != spec.dtype or not agrees:
        raise ModelError(
            expected=f"{role} {spec} as the model file has it",
            got=str(wanted),
            where=config.where,
            hint="dims leave out the batch where max_batch_size is above 0; -1 is a free one",
        )
    return msgspec.structs.replace(spec, shape=shape)


def offered(config: ModelConfig | None, signature: Signature) -> Signature:
    """Return the signature that clients see: the model's, but for what config.pbtxt reshapes."""
    if config is None:
        return signature
    batch = (None,) if config.settings.max_batch_size else ()
    dims = {
        tensor.name: (*batch, *tensor.dims)
        for tensor in (*config.inputs, *config.outputs)
        if tensor.dims is not None and tensor.reshape is not None
    }

    def seen(spec: TensorSpec) -> TensorSpec:
        return msgspec.structs.replace(spec, shape=dims.get(spec.name, spec.shape))

    return Signature(tuple(map(seen, signature.inputs)), tuple(map(seen, signature.outputs)))


def labels_of(config: ModelConfig, folder: Path) -> dict[str, tuple[str, ...]]:
    """Read the names of classes, a line each, of every output that has a ``label_filename``."""
    return {
        tensor.name: _labels(folder, tensor.label_filename)
        for tensor in config.outputs
        if tensor.label_filename
    }


def _labels(folder: Path, name: str) -> tuple[str, ...]:
    path = folder / name
    expected = "a file of labels, one a line"
    if not path.resolve().is_relative_to(folder.resolve()) or ".." in path.parts:
        raise ModelError(
            expected=f"{expected}, in the folder of the model", got=repr(name), where=str(folder)
        )
    return tuple(
        read_plain_text(
            path, expected=expected, error=ModelError, max_bytes=_MAX_LABEL_BYTES
        ).splitlines()
    )
