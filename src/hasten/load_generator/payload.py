"""The pool of requests, built before the run, and what an answer holds.

The V2 protocol's tensors, in JSON or as raw bytes after the JSON (Triton's binary extension).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from hasten.data import Samples, load_samples
from hasten.data.items import rows_per_sample, samples_per_feed
from hasten.errors import DataError, OptionError
from hasten.graph import Signature, numpy_dtype
from hasten.load_generator.server import DATATYPES, ServedModel, Server

__all__ = ["Payload", "Tensors", "build_payload", "read_answer"]

Tensors = Literal["binary", "json"]

#: As many random samples; real ones are all sent, up to as many bytes.
_RANDOM = 64
_MOST_BYTES = 512 * 2**20
_NAMES = {dtype: datatype for datatype, dtype in DATATYPES.items()}
#: What JSON has no numbers for that every server reads alike.
_ONLY_BINARY = frozenset({"float16", "bfloat16"})


@dataclass(frozen=True)
class Payload:
    """Whole HTTP requests that are sent in turn, each of ``samples_per_query`` samples.

    ``rows[r]`` are the rows, counted over all samples, that request r asks about. ``labels`` is
    the class of each row where the data has labels. ``left_out`` samples did not fit the pool.
    """

    requests: tuple[bytes, ...]
    rows: tuple[NDArray[np.int64], ...]
    samples_per_query: int
    source: str
    total_rows: int
    left_out: int = 0
    labels: NDArray[np.int64] | None = None


def build_payload(
    server: Server,
    model: ServedModel,
    *,
    data: str | None,
    tensors: Tensors,
    samples_per_query: int,
    seed: int,
    scratch: Path,
) -> Payload:
    """Build the requests from samples, or from random numbers where there are none.

    Raises DataError or OptionError where the model cannot be asked so.
    """
    _check_tensors(model.signature, tensors)
    samples = _samples(model, data, samples_per_query, seed, scratch)
    shapes = {name: array.shape[1:] for name, array in samples.arrays.items()}
    fixed = samples_per_feed(model.signature, shapes, samples.source)
    if fixed and samples_per_query not in (1, fixed):
        raise OptionError(
            expected=f"{fixed} samples a query, as the model's batch is fixed",
            got=str(samples_per_query),
            where="--batch",
        )
    each = fixed or samples_per_query
    requests: list[bytes] = []
    rows: list[NDArray[np.int64]] = []
    size, count = 0, -(-len(samples) // each)
    wide = np.arange(rows_per_sample(model.signature, shapes))
    for start in range(0, count * each, each):
        if size > _MOST_BYTES:
            break
        indices = np.arange(start, start + each) % len(samples)
        feed = samples.feed(model.signature, indices)
        requests.append(_request(server, model, feed, tensors))
        rows.append((indices[:, None] * len(wide) + wide).ravel())
        size += len(requests[-1])
    return Payload(
        tuple(requests),
        tuple(rows),
        each,
        samples.source,
        len(samples) * len(wide),
        max(0, len(samples) - len(requests) * each),
        None if samples.labels is None else np.repeat(samples.labels, len(wide)),
    )


def _check_tensors(signature: Signature, tensors: Tensors) -> None:
    for spec in signature.inputs:
        if tensors == "json" and spec.dtype in _ONLY_BINARY:
            raise OptionError(
                expected=f"--tensors binary for the input '{spec.name}' of {spec.dtype}",
                got="json",
                where="--tensors",
            )


def _samples(
    model: ServedModel, data: str | None, samples_per_query: int, seed: int, scratch: Path
) -> Samples:
    if data is not None:
        return load_samples(data, model.signature, scratch=scratch)
    for spec in model.signature.inputs:
        if None in spec.shape[1:]:
            raise DataError(
                expected="a size for every dimension but the first",
                got=str(spec),
                where=f"model {model.name}",
                hint="give --data",
            )
    count = max(_RANDOM, samples_per_query)
    each = model.signature.batch or 1
    return Samples.synthetic(model.signature, count * each, seed)


def _request(
    server: Server, model: ServedModel, feed: dict[str, NDArray[Any]], tensors: Tensors
) -> bytes:
    described, raw = [], []
    for spec in model.signature.inputs:
        array = feed[spec.name]
        entry: dict[str, Any] = {
            "name": spec.name,
            "shape": array.shape,
            "datatype": _NAMES[spec.dtype],
        }
        if tensors == "binary":
            raw.append(array.tobytes())
            entry["parameters"] = {"binary_data_size": len(raw[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        described.append(entry)
    document: dict[str, Any] = {"inputs": described}
    if tensors == "binary":
        document["parameters"] = {"binary_data_output": True}
    text = msgspec.json.encode(document)
    length = len(text) + sum(map(len, raw))
    kind = "application/json"
    more = ""
    if tensors == "binary":
        kind = "application/octet-stream"
        more = f"Inference-Header-Content-Length: {len(text)}\r\n"
    head = (
        f"POST {model.path} HTTP/1.1\r\nHost: {server.address}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {length}\r\n{more}\r\n"
    )
    return b"".join([head.encode(), text, *raw])


def read_answer(body: bytes, json_bytes: int | None) -> dict[str, NDArray[Any]]:
    """Return the outputs in an answer by name; raises ValueError for what is none."""
    text, raw = (body, b"") if json_bytes is None else (body[:json_bytes], body[json_bytes:])
    document = msgspec.json.decode(text)
    found: dict[str, NDArray[Any]] = {}
    at = 0
    try:
        for output in document["outputs"]:
            dtype = numpy_dtype(DATATYPES[output["datatype"]])
            size = output.get("parameters", {}).get("binary_data_size")
            if size is None:
                values = np.asarray(output["data"], dtype)
            else:
                values = np.frombuffer(raw[at : at + size], dtype)
                at += size
            found[output["name"]] = values.reshape(output["shape"])
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"no outputs of the V2 protocol: {problem!r}") from None
    return found
