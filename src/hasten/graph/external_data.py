"""Weights kept in files beside an ONNX model, read with the suspicion they deserve.

A tensor may name any file, offset and length, so a hostile model could have other files of this
machine read into it (CVE-2022-25882, CVE-2024-27318, CVE-2026-27489). Hence:

- the location is a relative path of plain names below the model's own folder: not absolute, no
  ``..``, no back-slash;
- nothing on that path is a symbolic link, wherever it leads;
- the file is a regular file and has no other hard link;
- offset and length lie within it, and the length is what dtype and dimensions need.

Anything else is a ModelError that names the tensor. All tensors are checked, those in attributes,
subgraphs, functions and sparse tensors included, before the first byte is read in.
"""

from __future__ import annotations

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hasten.errors import ModelError
from hasten.graph.operators import all_scopes

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

__all__ = ["all_tensors", "external_tensors", "read_external_data"]

#: What a protobuf message can hold; a model with more weights cannot be handed to a runtime whole.
_MAX_TOTAL_BYTES = 2**31 - 1


@dataclass(frozen=True)
class _Region:
    """Where the bytes of one tensor lie."""

    tensor: onnx.TensorProto
    path: Path
    offset: int
    length: int


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor a model holds, wherever it is kept."""
    for scope in all_scopes(proto):
        yield from getattr(scope, "initializer", ())
        for sparse in getattr(scope, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        attributes = [attribute for node in scope.node for attribute in node.attribute]
        for attribute in (*attributes, *getattr(scope, "attribute_proto", ())):
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            sparse_values = list(attribute.sparse_tensors)
            if attribute.HasField("sparse_tensor"):
                sparse_values.append(attribute.sparse_tensor)
            for sparse in sparse_values:
                yield from (sparse.values, sparse.indices)


def external_tensors(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Return the tensors whose bytes are not in the model itself."""
    from onnx import TensorProto

    return [
        tensor
        for tensor in all_tensors(proto)
        if tensor.data_location == TensorProto.EXTERNAL or tensor.external_data
    ]


def read_external_data(proto: onnx.ModelProto, folder: Path, *, where: str) -> None:
    """Read the bytes of all external tensors into ``proto``, in place.

    Raises ModelError, naming the tensor, for a place outside ``folder`` or bytes that do not fit.
    """
    regions = [_region(tensor, folder, where) for tensor in external_tensors(proto)]
    total = sum(region.length for region in regions)
    if total > _MAX_TOTAL_BYTES:
        raise ModelError(
            expected="less than 2 GB of weights", got=f"{total / 1e9:.1f} GB", where=where
        )
    for region in regions:
        region.tensor.raw_data = _read(region, where)
        region.tensor.ClearField("data_location")
        del region.tensor.external_data[:]


def _region(tensor: onnx.TensorProto, folder: Path, where: str) -> _Region:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    path = _path_inside(folder, entries.get("location", ""), tensor, where)
    needed = _bytes_needed(tensor, where)
    offset = _count(entries.get("offset", "0"), "offset", tensor, where)
    length = _count(entries.get("length", str(needed)), "length", tensor, where)
    if length != needed:
        raise _refusal(
            tensor, where, expected=f"{needed} bytes for {_layout(tensor)}", got=f"length {length}"
        )
    size = _size_of_plain_file(path, tensor, where)
    if offset + length > size:
        raise _refusal(
            tensor,
            where,
            expected=f"external data within the {size} bytes of {path.name}",
            got=f"bytes {offset} to {offset + length}",
        )
    return _Region(tensor, path, offset, length)


def _path_inside(folder: Path, location: str, tensor: onnx.TensorProto, where: str) -> Path:
    parts = location.split("/")
    if not location.isprintable() or "\\" in location or {"", ".", ".."} & set(parts):
        raise _refusal(
            tensor,
            where,
            expected="external data in a plain relative path below the model's own folder",
            got=repr(location),
        )
    path = folder
    for part in parts:
        path = path / part
        if _is_link(path):
            raise _refusal(
                tensor,
                where,
                expected="external data without symbolic links",
                got=f"a link at {path.name}",
                hint="copy the file into the model's folder",
            )
    return path


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:  # a name that is too long: there is no such file, as its size will tell
        return False


def _size_of_plain_file(path: Path, tensor: onnx.TensorProto, where: str) -> int:
    try:
        status = path.lstat()
    except OSError as error:
        raise _refusal(
            tensor,
            where,
            expected=f"external data in {path.name}",
            got=error.strerror or type(error).__name__,
        ) from None
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(
            tensor, where, expected=f"{path.name} to be a regular file", got="something else"
        )
    if status.st_nlink != 1:
        raise _refusal(
            tensor,
            where,
            expected=f"{path.name} to have no other hard link",
            got=f"{status.st_nlink} links",
            hint="copy the file",
        )
    return status.st_size


def _read(region: _Region, where: str) -> bytes:
    try:
        descriptor = os.open(
            region.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        )
        with open(descriptor, "rb") as file:
            file.seek(region.offset)
            data = file.read(region.length)
    except OSError as error:
        raise _refusal(
            region.tensor,
            where,
            expected=f"to read {region.path.name}",
            got=error.strerror or type(error).__name__,
        ) from None
    if len(data) != region.length:
        raise _refusal(
            region.tensor,
            where,
            expected=f"{region.length} bytes in {region.path.name}",
            got=f"{len(data)}",
        )
    return data


def _bytes_needed(tensor: onnx.TensorProto, where: str) -> int:
    from onnx import TensorProto, helper

    fixed = tensor.data_type not in {TensorProto.UNDEFINED, TensorProto.STRING}
    if not fixed or tensor.data_type not in TensorProto.DataType.values():
        raise _refusal(
            tensor,
            where,
            expected="external data of a dtype of fixed size",
            got=f"dtype {tensor.data_type}",
        )
    if any(dim < 0 for dim in tensor.dims):
        raise _refusal(
            tensor,
            where,
            expected="external data with dimensions of 0 or more",
            got=str(list(tensor.dims)),
        )
    bits = _PACKED_BITS.get(TensorProto.DataType.Name(tensor.data_type))
    if bits is None:
        bits = 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    elements: int = math.prod(tensor.dims)
    return (elements * bits + 7) // 8


#: Types of which several share a byte.
_PACKED_BITS = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}


def _count(text: str, key: str, tensor: onnx.TensorProto, where: str) -> int:
    if text.isascii() and text.isdigit() and len(text) < len(str(2**63)):
        return int(text)
    raise _refusal(
        tensor, where, expected=f"external data with a whole number as {key}", got=repr(text)
    )


def _layout(tensor: onnx.TensorProto) -> str:
    from onnx import TensorProto

    dims = ",".join(str(dim) for dim in tensor.dims)
    return f"{TensorProto.DataType.Name(tensor.data_type).lower()}[{dims}]"


def _refusal(
    tensor: onnx.TensorProto, where: str, *, expected: str, got: str, hint: str = ""
) -> ModelError:
    name = tensor.name if tensor.name.isprintable() and tensor.name else repr(tensor.name)
    return ModelError(expected=expected, got=got, where=f"{where}: tensor {name}", hint=hint)
