"""ONNX models: read and checked, written, and their signature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hasten.errors import ModelError, one_line
from hasten.graph.external_data import external_tensors, read_external_data
from hasten.graph.model import Model
from hasten.graph.operators import undefined_in_default_domain
from hasten.graph.output_file import write_whole
from hasten.graph.signature import Signature, TensorSpec
from hasten.plain_file import read_plain, shown

if TYPE_CHECKING:
    import onnx

__all__ = [
    "model_from_proto",
    "read_model_bytes",
    "read_onnx",
    "signature_of",
    "write_onnx",
]

#: The first IR version in which constants need not be inputs too.
_OWN_CONSTANTS = 4
#: Protocol buffers refuse larger messages.
_MAX_PROTO_BYTES = 2**31 - 1


def read_onnx(path: str | Path) -> Model:
    """Read an .onnx file, with its external data if it keeps to the rules of ``external_data``.

    Raises ModelError when the file is missing, damaged, not ONNX, or not valid by ``onnx.checker``.
    """
    path = Path(path)
    proto = _parse(read_model_bytes(path, kind="an .onnx file"), where=str(path))
    read_external_data(proto, path.parent, where=str(path))
    return _checked_model(proto, path.stem, where=str(path))


def model_from_proto(proto: onnx.ModelProto, name: str = "") -> Model:
    """Make a Model of a proto already in memory; the proto must not be changed afterwards.

    Raises ModelError when it is not valid, or leaves tensors in files: which folder they would be
    in is not known here (``onnx.load`` reads them in).
    """
    name = name or proto.graph.name or "model"
    where = f"ModelProto {name}"
    _check_complete(proto, where)
    outside = external_tensors(proto)
    if outside:
        raise ModelError(
            expected="a proto with its weights inside",
            got=f"external data for tensor {outside[0].name}",
            where=where,
            hint="give the path of the .onnx file instead",
        )
    return _checked_model(proto, name, where=where)


def read_model_bytes(path: Path, *, kind: str) -> bytes:
    """Return the bytes of a model file; ModelError when there is no such file, or nothing in it."""
    data = read_plain(path, expected=kind, error=ModelError, max_bytes=_MAX_PROTO_BYTES)
    if not data:
        raise ModelError(expected=kind, got="an empty file", where=shown(path))
    return data


def write_onnx(model: Model, path: str | Path) -> None:
    """Write the graph to ``path`` in one piece: beside it first, then renamed.

    Raises ModelError for a model that is no graph or too large, OutputError where it cannot write.
    """
    model.graph  # noqa: B018  # refuses a .tflite
    write_whole(Path(path), model.payload)


def signature_of(proto: onnx.ModelProto, *, where: str = "") -> Signature:
    """Return inputs (those that are not initializers) and outputs of an ONNX model.

    Named, missing and negative dimensions are free. Outputs without a shape get the one that ONNX
    shape inference finds. Raises ModelError for a value that is no tensor or has no known rank.
    """
    where = where or proto.graph.name or "model"
    constants = {tensor.name for tensor in proto.graph.initializer}
    constants |= {sparse.values.name for sparse in proto.graph.sparse_initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    outputs = _with_output_shapes(proto, where).graph.output
    return Signature(
        inputs=tuple(_tensor_spec(value, "input", where) for value in inputs),
        outputs=tuple(_tensor_spec(value, "output", where) for value in outputs),
    )


def _has_shape(value: onnx.ValueInfoProto) -> bool:
    is_tensor = value.type.WhichOneof("value") == "tensor_type"
    return not is_tensor or bool(value.type.tensor_type.HasField("shape"))


def _with_output_shapes(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """Return the model with the shapes of its outputs inferred, itself where none is missing."""
    import onnx
    from onnx import shape_inference

    if all(_has_shape(value) for value in proto.graph.output):
        return proto
    try:
        inferred = shape_inference.infer_shapes(proto)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise ModelError(expected="a valid ONNX model", got=one_line(error), where=where) from None
    shaped = onnx.ModelProto()
    shaped.CopyFrom(proto)
    del shaped.graph.output[:]
    shaped.graph.output.extend(inferred.graph.output)
    return shaped


def _tensor_spec(value: onnx.ValueInfoProto, role: str, where: str) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        got = kind.removesuffix("_type").replace("_", " ") if kind else "no type"
        raise ModelError(
            expected=f"a tensor as {role} {value.name}",
            got=got,
            where=where,
            hint="models take and return plain tensors; sequences may be used inside",
        )
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        raise ModelError(
            expected=f"{role} {value.name} with a known number of dimensions",
            got="no shape",
            where=where,
            hint="export the model with shapes",
        )
    shape = tuple(_dim(dim) for dim in tensor.shape.dim)
    return TensorSpec(value.name, _dtype_name(tensor.elem_type, role, value.name, where), shape)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | None:
    return dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None


def _dtype_name(elem_type: int, role: str, name: str, where: str) -> str:
    from onnx import TensorProto, helper

    if elem_type == TensorProto.STRING:
        return "str"
    if elem_type == TensorProto.UNDEFINED or elem_type not in TensorProto.DataType.values():
        raise ModelError(
            expected=f"{role} {name} with a dtype", got=f"dtype {elem_type}", where=where
        )
    return str(helper.tensor_dtype_to_np_dtype(elem_type).name)


def _parse(data: bytes, *, where: str) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(data)
    except DecodeError:
        raise ModelError(
            expected="an ONNX model",
            got=f"{len(data)} bytes that do not parse (truncated, or of another format)",
            where=where,
        ) from None
    _check_complete(proto, where)
    return proto


def _check_complete(proto: onnx.ModelProto, where: str) -> None:
    """Protocol buffers parse many a foreign file: ask for what each ONNX model has."""
    missing = [
        what
        for what, there in (
            ("ir_version", proto.ir_version > 0),
            ("opset_import", len(proto.opset_import) > 0),
            ("graph", proto.HasField("graph")),
            ("outputs", len(proto.graph.output) > 0),
        )
        if not there
    ]
    if missing:
        raise ModelError(
            expected="an ONNX model", got=f"one without {', '.join(missing)}", where=where
        )


def _checked_model(proto: onnx.ModelProto, name: str, *, where: str) -> Model:
    from onnx import checker

    undefined = undefined_in_default_domain(proto)
    if undefined:
        raise ModelError(
            expected=f"operators of ONNX opset {_default_opset(proto)}",
            got=undefined[0],
            where=where,
            hint="custom operators need a domain of their own",
        )
    proto = _with_own_constants(proto)
    signature = signature_of(proto, where=where)
    proto = _with_output_shapes(proto, where)
    if proto.ByteSize() <= _MAX_PROTO_BYTES:
        try:
            checker.check_model(proto)
        except (checker.ValidationError, ValueError, RuntimeError) as error:
            raise ModelError(
                expected="a valid ONNX model", got=one_line(error), where=where
            ) from None
    return Model(name=name, content=proto, signature=signature)


def _with_own_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with no constant among its inputs, itself where none is.

    Files before IR version 4 have to list them there, and later ones may, so that a caller could
    give others: here they are constants, and whoever makes a new one need not list it.
    """
    import onnx

    constants = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in constants]
    if proto.ir_version >= _OWN_CONSTANTS and len(inputs) == len(proto.graph.input):
        return proto
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    made.ir_version = max(proto.ir_version, _OWN_CONSTANTS)
    del made.graph.input[:]
    made.graph.input.extend(inputs)
    return made


def _default_opset(proto: onnx.ModelProto) -> int:
    return max((entry.version for entry in proto.opset_import if not entry.domain), default=0)
