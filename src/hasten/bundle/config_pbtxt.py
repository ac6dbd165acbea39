"""config.pbtxt: what makes a bundle an entry of a Triton model repository."""

from __future__ import annotations

from hasten.bundle.manifest import Manifest
from hasten.graph import TensorSpec

__all__ = ["config_pbtxt"]

#: NumPy's dtype names in Triton's words.
_TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "bfloat16": "TYPE_BF16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "str": "TYPE_STRING",
}
#: Triton's backend for each runtime of ours.
_BACKENDS = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "tflite",
    "pytorch": "pytorch",
    "torch-compile": "pytorch",
    "null": "null",
}


def config_pbtxt(manifest: Manifest) -> str:
    """Return the text of config.pbtxt; a free batch is Triton's own, so dims leave it out."""
    max_batch = int(manifest.plan.serving.get("max_batch_size", 0))
    execution = manifest.plan.execution
    lines = [
        f'name: "{manifest.name}"',
        f'backend: "{_BACKENDS[manifest.plan.runtime]}"',
        f'default_model_filename: "{manifest.artifact.file.rpartition("/")[2]}"',
        f"max_batch_size: {max_batch}",
        *(_tensor("input", spec, batched=max_batch > 0) for spec in manifest.signature.inputs),
        *(_tensor("output", spec, batched=max_batch > 0) for spec in manifest.signature.outputs),
        f"instance_group [{{ count: {execution['instances']}, kind: KIND_CPU }}]",
    ]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, spec: TensorSpec, *, batched: bool) -> str:
    shape = spec.shape[1:] if batched else spec.shape
    dims = ", ".join("-1" if dim is None else str(dim) for dim in shape)
    return f'{kind} [{{ name: "{spec.name}", data_type: {_TYPES[spec.dtype]}, dims: [ {dims} ] }}]'
