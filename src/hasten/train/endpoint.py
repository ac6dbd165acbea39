"""A teacher behind a URL: a model served with the V2 protocol, asked with binary tensors."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten.errors import OptionError, RuntimeFailureError, one_line

__all__ = ["Endpoint"]

_HEADER = "Inference-Header-Content-Length"
_TIMEOUT_S = 120.0

_DATATYPES = {
    "BOOL": np.dtype(bool),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "INT8": np.dtype(np.int8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "UINT8": np.dtype(np.uint8),
}
_NAMES = {dtype: name for name, dtype in _DATATYPES.items()}


class Endpoint:
    """Asks ``http://host:port/v2/models/NAME``, by the names of the inputs that are fed.

    Raises OptionError for a URL of another form; a request that fails is a RuntimeFailureError.
    Protocol: Open Inference Protocol with Triton's binary tensor extension.
    """

    def __init__(self, url: str) -> None:
        if "/v2/models/" not in urlsplit(url).path:
            raise OptionError(
                expected="a URL such as http://127.0.0.1:8000/v2/models/NAME",
                got=url,
                where="teacher",
            )
        self._url = url.rstrip("/").removesuffix("/infer") + "/infer"

    def answer(self, feed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the outputs, in the order in which they are answered."""
        inputs, raw = [], []
        for name, value in feed.items():
            content = np.ascontiguousarray(value).tobytes()
            raw.append(content)
            inputs.append(
                {
                    "name": name,
                    "shape": list(value.shape),
                    "datatype": _NAMES[value.dtype],
                    "parameters": {"binary_data_size": len(content)},
                }
            )
        head = {"inputs": inputs, "parameters": {"binary_data_output": True}}
        encoded = msgspec.json.encode(head)
        try:
            return self._asked(b"".join([encoded, *raw]), len(encoded))
        except urllib.error.HTTPError as error:
            reason = error.read(300).decode(errors="replace")
            raise RuntimeFailureError(
                f"the teacher at {self._url} answered {error.code}: {reason}"
            ) from None
        except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
            raise RuntimeFailureError(
                f"the teacher at {self._url} could not be asked: {one_line(error)}"
            ) from None

    def _asked(self, body: bytes, head_size: int) -> dict[str, NDArray[Any]]:
        headers = {_HEADER: str(head_size), "Content-Type": "application/octet-stream"}
        request = urllib.request.Request(self._url, body, headers)  # noqa: S310 - http, by open_teacher
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as reply:  # noqa: S310
            content = reply.read()
            size = int(reply.headers.get(_HEADER) or len(content))
        head, at, found = msgspec.json.decode(content[:size]), size, {}
        for output in head["outputs"]:
            dtype = _DATATYPES[output["datatype"]]
            length = output.get("parameters", {}).get("binary_data_size")
            if length is None:
                values = np.asarray(output["data"], dtype)
            else:
                values = np.frombuffer(content[at : at + length], dtype)
                at += length
            found[output["name"]] = values.reshape(output["shape"])
        return found

    def close(self) -> None:
        """Hold nothing between requests."""
