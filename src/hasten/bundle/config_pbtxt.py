"""config.pbtxt: what makes a bundle an entry of a Triton model repository."""

from __future__ import annotations

from hasten.bundle.manifest import Manifest
from hasten.graph import TensorSpec

__all__ = ["TRITON_BACKENDS", "TRITON_TYPES", "config_pbtxt"]

#: NumPy's dtype names in Triton's words.
TRITON_TYPES = {
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
#: For dtypes that Triton has no word for, such as int4: it refuses them, other runtimes need not.
_NO_TYPE = "TYPE_INVALID"
#: Triton's backend for each runtime of ours.
TRITON_BACKENDS = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "litert": "tflite",
    "pytorch": "pytorch",
    "torch-compile": "pytorch",
    "null": "null",
}


def config_pbtxt(manifest: Manifest) -> str:
    """Return the text of config.pbtxt; a free batch is Triton's own, so dims leave it out.

    Source: Triton's model_config.proto and "Model Configuration" in its user guide.
    """
    inputs, outputs = manifest.signature.inputs, manifest.signature.outputs
    max_batch: int = manifest.plan.serving.get("max_batch_size", 0)
    rows = manifest.artifact.rows
    mixed = rows is not None and rows.rows != "independent"
    if mixed or not manifest.signature.batchable:
        max_batch = 0  # Triton joins the requests of a model that has another
    batched = max_batch > 0
    execution = manifest.plan.execution
    kind = "KIND_GPU" if execution.get("device", "cpu") == "gpu" else "KIND_CPU"
    lines = [
        f"name: {_quoted(manifest.name)}",
        f"backend: {_quoted(TRITON_BACKENDS[manifest.plan.runtime])}",
        f"default_model_filename: {_quoted(manifest.artifact.file.rpartition('/')[2])}",
        f"max_batch_size: {max_batch}",
        *(_tensor("input", spec, batched=batched) for spec in inputs),
        *(_tensor("output", spec, batched=batched) for spec in outputs),
        f"instance_group [{{ count: {execution.get('instances', 1)}, kind: {kind} }}]",
    ]
    return "\n".join(lines) + "\n"


def _tensor(kind: str, spec: TensorSpec, *, batched: bool) -> str:
    shape = spec.shape[1:] if batched else spec.shape
    dims = ", ".join("-1" if dim is None else str(dim) for dim in shape)
    # Triton takes no empty dims: a scalar is one value that is reshaped to none.
    extent = f"dims: [ {dims} ]" if shape else "dims: [ 1 ], reshape: { shape: [ ] }"
    dtype = TRITON_TYPES.get(spec.dtype, _NO_TYPE)
    return f"{kind} [{{ name: {_quoted(spec.name)}, data_type: {dtype}, {extent} }}]"


def _quoted(text: str) -> str:
    r"""Return a string literal of protobuf's text format.

    >>> print(_quoted('a "b"\n'))
    "a \"b\"\n"
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
