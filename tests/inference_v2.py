"""Infer requests of the V2 protocol and their answers, written down independently of the server."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from served import Answer, message

__all__ = ["DATATYPES", "binary", "infer", "jsonned", "outputs", "path_of", "tensor", "values"]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype(np.bool_),
    **{
        f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits}")
        for kind in ("INT", "UINT")
        for bits in (8, 16, 32, 64)
    },
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(object),
}

Arrays = Mapping[str, np.ndarray]


def values(datatype: str) -> np.ndarray:
    """Two rows of three, with the extremes of the datatype."""
    dtype = DATATYPES[datatype]
    if datatype == "BYTES":
        return np.array([["", "a", "straße\x00"], ["日本", '"quoted"', "line\n"]], object)
    if datatype == "BOOL":
        return np.array([[True, False, True], [False, False, True]])
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([[info.min, 0, 1], [info.max, info.max - 1, 7]], dtype)
    top = float((ml_dtypes if datatype == "BF16" else np).finfo(dtype).max)
    return np.array([[-top, 0, 0.5], [top, 1.5, -2]], dtype)


def path_of(model: str) -> str:
    return f"/v2/models/{model}/infer"


def raw_bytes(array: np.ndarray) -> bytes:
    """A tensor as the binary extension has it."""
    if array.dtype != object:
        return array.tobytes()
    texts = [str(one).encode() for one in array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def tensor(name: str, array: np.ndarray, **changes: object) -> dict[str, Any]:
    """An input without its data."""
    datatype = next(word for word, dtype in DATATYPES.items() if dtype == array.dtype)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, **changes}


def jsonned(inputs: Arrays, **more: Any) -> bytes:
    """The body of a request in JSON alone; ``more`` are its other fields."""
    tensors = [
        tensor(name, array, data=array.astype(float).ravel().tolist())
        if array.dtype == ml_dtypes.bfloat16
        else tensor(name, array, data=array.ravel().tolist())
        for name, array in inputs.items()
    ]
    return json.dumps({"inputs": tensors, **more}).encode()


def binary(inputs: Arrays, **more: Any) -> tuple[bytes, int]:
    """The body of a request with binary tensors, and the length of its JSON."""
    blobs = {name: raw_bytes(array) for name, array in inputs.items()}
    tensors = [
        tensor(name, array, parameters={"binary_data_size": len(blobs[name])})
        for name, array in inputs.items()
    ]
    head = json.dumps({"inputs": tensors, **more}).encode()
    return head + b"".join(blobs.values()), len(head)


def infer(model: str, inputs: Arrays, **more: Any) -> bytes:
    """A whole request, binary both ways."""
    body, length = binary(inputs, parameters={"binary_data_output": True}, **more)
    return message("POST", path_of(model), body, Inference_Header_Content_Length=length)


def outputs(answer: Answer) -> dict[str, np.ndarray]:
    """The tensors of an answer, in it or behind it."""
    assert answer.status == 200, answer.body
    at = int(answer.headers.get("inference-header-content-length", len(answer.body)))
    document, behind = json.loads(answer.body[:at]), answer.body[at:]
    found = {}
    for one in document["outputs"]:
        size = one.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[one["name"]] = _of_values(one)
            continue
        found[one["name"]] = _of_bytes(one, behind[:size])
        behind = behind[size:]
    assert not behind
    return found


def _of_values(one: Mapping[str, Any]) -> np.ndarray:
    values: Sequence[Any] = one["data"]
    assert len(values) == math.prod(one["shape"])
    return np.array(values, DATATYPES[one["datatype"]]).reshape(one["shape"])


def _of_bytes(one: Mapping[str, Any], data: bytes) -> np.ndarray:
    if one["datatype"] != "BYTES":
        return np.frombuffer(data, DATATYPES[one["datatype"]]).reshape(one["shape"])
    texts = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + length].decode())
        data = data[4 + length :]
    return np.array(texts, object).reshape(one["shape"])
