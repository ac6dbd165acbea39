"""config.pbtxt: parsed by protobuf, against the part of Triton's definition that it uses."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format  # type: ignore[import-untyped]

from hasten.bundle.config_pbtxt import config_pbtxt
from hasten.bundle.manifest import Manifest, PlanRecord
from hasten.graph import Signature, TensorSpec
from hasten.runtimes import RUNTIMES
from manifests import manifest

_FIELD = descriptor_pb2.FieldDescriptorProto
_TYPES = "INVALID BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 FP32 FP64 STRING BF16"
#: Messages of Triton's model_config.proto: field, its type or message, and whether it repeats.
_MESSAGES: dict[str, list[tuple[str, int | str, bool]]] = {
    "Shape": [("shape", _FIELD.TYPE_INT64, True)],
    "Tensor": [
        ("name", _FIELD.TYPE_STRING, False),
        ("data_type", "DataType", False),
        ("dims", _FIELD.TYPE_INT64, True),
        ("reshape", "Shape", False),
    ],
    "InstanceGroup": [("count", _FIELD.TYPE_INT32, False), ("kind", "Kind", False)],
    "ModelConfig": [
        ("name", _FIELD.TYPE_STRING, False),
        ("backend", _FIELD.TYPE_STRING, False),
        ("default_model_filename", _FIELD.TYPE_STRING, False),
        ("max_batch_size", _FIELD.TYPE_INT32, False),
        ("input", "Tensor", True),
        ("output", "Tensor", True),
        ("instance_group", "InstanceGroup", True),
    ],
}
_ENUMS = {
    "DataType": [f"TYPE_{name}" for name in _TYPES.split()],
    "Kind": ["KIND_AUTO", "KIND_GPU", "KIND_CPU"],
}


def _model_config() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="config.proto", package="t", syntax="proto3")
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, start=1):
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            one = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, int):
                one.type = kind
            else:
                one.type = _FIELD.TYPE_ENUM if kind in _ENUMS else _FIELD.TYPE_MESSAGE
                one.type_name = f".t.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


_CONFIG = _model_config()


def parsed(*, name: str = "net", max_batch: int = 8, **changes: Any) -> Any:
    plan = PlanRecord(
        steps=(),
        runtime=changes.pop("runtime", "onnxruntime"),
        execution={"threads": 1, "instances": 2},
        serving={"max_batch_size": max_batch},
    )
    record = msgspec.structs.replace(manifest(), name=name, plan=plan, **changes)
    return text_format.Parse(config_pbtxt(record), _CONFIG())


def signature(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] | None = None) -> Signature:
    return Signature(inputs, outputs or (TensorSpec("y", "float32", (None, 2)),))


def test_a_manifest_as_it_comes_from_a_run_parses() -> None:
    found: Manifest = manifest()
    config = text_format.Parse(config_pbtxt(found), _CONFIG())
    assert config.name == "elpv-lite0"
    assert config.default_model_filename == "model.onnx"


def test_a_free_batch_is_not_among_the_dims() -> None:
    config = parsed()
    assert config.max_batch_size == 8
    assert list(config.input[0].dims) == [3, 224, 224]
    assert list(config.output[0].dims) == [2]


def test_without_batching_all_dims_are_there_and_free_ones_are_minus_one() -> None:
    config = parsed(max_batch=0)
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, 3, 224, 224]


@pytest.mark.parametrize(
    "spec", [TensorSpec("y", "float32", (1, 2)), TensorSpec("y", "float32", ())]
)
def test_where_an_output_has_no_free_batch_there_is_no_batching(spec: TensorSpec) -> None:
    config = parsed(signature=signature(TensorSpec("x", "float32", (None, 4)), outputs=(spec,)))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [-1, 4]


def test_other_free_dimensions_are_minus_one() -> None:
    config = parsed(signature=signature(TensorSpec("tokens", "int64", (None, None))))
    assert list(config.input[0].dims) == [-1]


def test_a_batch_of_scalars_is_reshaped_to_none() -> None:
    config = parsed(signature=signature(TensorSpec("age", "float32", (None,))))
    assert list(config.input[0].dims) == [1]
    assert config.input[0].HasField("reshape")
    assert list(config.input[0].reshape.shape) == []


@pytest.mark.parametrize(
    ("dtype", "word"),
    [
        ("float32", "TYPE_FP32"),
        ("uint8", "TYPE_UINT8"),
        ("bfloat16", "TYPE_BF16"),
        ("bool", "TYPE_BOOL"),
        ("str", "TYPE_STRING"),
        ("int4", "TYPE_INVALID"),
    ],
)
def test_dtypes_are_in_the_words_of_triton(dtype: str, word: str) -> None:
    config = parsed(signature=signature(TensorSpec("x", dtype, (None, 4))))
    assert config.input[0].data_type == _ENUMS["DataType"].index(word)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_has_a_backend(runtime: str) -> None:
    assert parsed(runtime=runtime).backend


def test_instances_run_on_the_cpu() -> None:
    (group,) = parsed().instance_group
    assert group.count == 2
    assert group.kind == _ENUMS["Kind"].index("KIND_CPU")


@pytest.mark.parametrize("name", ['a "quoted" name', "back\\slash", "two\nlines", "käse"])
def test_names_come_back_as_they_are(name: str) -> None:
    config = parsed(name=name, signature=signature(TensorSpec(name, "float32", (None, 4))))
    assert config.name == name
    assert config.input[0].name == name
