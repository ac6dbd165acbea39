"""config.pbtxt read by Triton's own definition, as far as it is served."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.bundle.config_pbtxt import config_pbtxt
from hasten.bundle.manifest import PlanRecord
from hasten.errors import HastenError, MissingExtraError, ModelError, OptionError
from hasten.graph import Signature, TensorSpec
from hasten.serve.engine.settings import DynamicBatching, QueuePolicy, ServingSettings
from hasten.serve.repository.config_pbtxt import ModelConfig, parse_config, read_config
from manifests import manifest


def parsed(text: str) -> ModelConfig:
    return parse_config(text, "config.pbtxt")


def refused(text: str) -> str:
    with pytest.raises(ModelError) as caught:
        parsed(text)
    message = str(caught.value)
    assert "config.pbtxt" in message
    assert "\n" not in message
    return message


def test_an_empty_file_is_all_defaults_of_triton() -> None:
    found = parsed("")
    assert found.settings == ServingSettings(max_batch_size=0, dynamic_batching=None)
    assert (found.name, found.runtime, found.inputs, found.notes) == ("", "", (), ())


def test_dynamic_batching_is_read_whole() -> None:
    found = parsed(
        """
        max_batch_size: 16
        dynamic_batching {
          preferred_batch_size: [ 4, 8 ]
          max_queue_delay_microseconds: 100
          preserve_ordering: true
          priority_levels: 2
          default_priority_level: 1
          default_queue_policy { max_queue_size: 7 }
          priority_queue_policy { key: 2 value {
            timeout_action: DELAY default_timeout_microseconds: 5 allow_timeout_override: true } }
        }
        """
    )
    assert found.settings.max_batch_size == 16
    assert found.settings.dynamic_batching == DynamicBatching(
        preferred_batch_size=(4, 8),
        max_queue_delay_microseconds=100,
        preserve_ordering=True,
        priority_levels=2,
        default_priority_level=1,
        default_queue_policy=QueuePolicy(max_queue_size=7),
        priority_queue_policy={
            2: QueuePolicy(
                timeout_action="DELAY", default_timeout_microseconds=5, allow_timeout_override=True
            )
        },
    )


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", None),
        ("instance_group [ { kind: KIND_CPU } ]", 1),
        ("instance_group [ { count: 2 }, { count: 3 } ]", 5),
        ("instance_group [ { count: 2 }, { count: 3 passive: true } ]", 2),
    ],
)
def test_instances_of_all_groups_are_summed(text: str, count: int | None) -> None:
    assert parsed(text).settings.instances == count


def test_the_response_cache_has_its_switch() -> None:
    assert parsed("response_cache { enable: true }").settings.response_cache
    assert not parsed("response_cache { enable: false }").settings.response_cache


@pytest.mark.parametrize(
    ("text", "policy", "latest"),
    [
        ("", "latest", 1),
        ("version_policy { latest { } }", "latest", 1),
        ("version_policy { latest { num_versions: 3 } }", "latest", 3),
        ("version_policy { all { } }", "all", 1),
        ("version_policy { specific { versions: [ 3, 1 ] } }", (1, 3), 1),
    ],
)
def test_the_version_policy_is_read(text: str, policy: Any, latest: int) -> None:
    found = parsed(text)
    assert (found.settings.version_policy, found.latest) == (policy, latest)


def test_tensors_have_numpys_dtypes_and_free_dimensions() -> None:
    found = parsed(
        """
        input [ { name: "tokens" data_type: TYPE_INT64 dims: [ -1 ] } ]
        output [ { name: "p" data_type: TYPE_BF16 dims: [ 10 ] label_filename: "labels.txt" } ]
        """
    )
    (tokens,), (p,) = found.inputs, found.outputs
    assert (tokens.dtype, tokens.dims) == ("int64", (None,))
    assert (p.dtype, p.dims, p.label_filename) == ("bfloat16", (10,), "labels.txt")


def test_a_reshape_is_what_the_model_has() -> None:
    (age,) = parsed('input { name: "age" dims: [ 1 ] reshape { shape: [ ] } }').inputs
    assert age.dims == (1,)
    assert age.model_dims == ()


def test_a_reshape_has_as_many_elements_between_free_dimensions() -> None:
    (x,) = parsed(
        'input { name: "x" dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, -1, 1, 6 ] } }'
    ).inputs
    assert x.model_dims == (8, None, 1, 6)


def test_what_is_left_out_of_a_tensor_is_for_the_model_file_to_say() -> None:
    (x,) = parsed('input { name: "x" }').inputs
    assert (x.dtype, x.dims, x.model_dims) == (None, None, None)


def test_the_batch_is_open_where_neither_it_nor_tensors_are_given() -> None:
    assert parsed('backend: "onnxruntime"').leaves_batch_open
    assert not parsed("max_batch_size: 4").leaves_batch_open
    assert not parsed('input { name: "x" }').leaves_batch_open


@pytest.mark.parametrize(
    ("text", "runtime"),
    [
        ('platform: "onnxruntime_onnx"', "onnxruntime"),
        ('backend: "onnxruntime"', "onnxruntime"),
        ('backend: "tflite"', "litert"),
        ('backend: "openvino"', "openvino"),
        ("", ""),
    ],
)
def test_backends_are_runtimes_of_ours(text: str, runtime: str) -> None:
    assert parsed(text).runtime == runtime


@pytest.mark.parametrize("word", ["python", "tensorrt_plan", "ensemble", "vllm"])
def test_other_backends_are_refused_by_name(word: str) -> None:
    assert repr(word) in refused(f'backend: "{word}"')


def test_threads_of_onnx_runtime_are_taken_from_parameters() -> None:
    text = 'parameters { key: "intra_op_thread_count" value { string_value: "%s" } }'
    assert parsed(text % "3").settings.threads == 3
    assert parsed(text % "0").settings.threads is None
    with pytest.raises(OptionError, match="a number of threads, got 'many'"):
        parsed(text % "many")


def test_other_parameters_are_kept_and_noted() -> None:
    found = parsed('parameters { key: "color" value { string_value: "red" } }')
    assert found.parameters == {"color": "red"}
    assert found.notes == ("parameters without effect: color",)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ensemble_scheduling { }", "ensemble_scheduling"),
        ("sequence_batching { }", "sequence_batching"),
        ("batch_input [ { } ]", "batch_input"),
        ("batch_output [ { } ]", "batch_output"),
        ('model_operations { op_library_filename: "x.so" }', "model_operations"),
        ('model_repository_agents { agents [ { name: "c" } ] }', "model_repository_agents"),
        ("model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
        ('input { name: "x" optional: true }', "optional of input x"),
        ('input { name: "x" allow_ragged_batch: true }', "allow_ragged_batch of input x"),
        ('output { name: "y" is_shape_tensor: true }', "is_shape_tensor of output y"),
    ],
)
def test_what_is_not_served_is_refused_by_name(text: str, name: str) -> None:
    assert f"got {name} - at config.pbtxt" in refused(text)


def test_all_that_is_not_served_is_named_at_once() -> None:
    assert "ensemble_scheduling, batch_input" in refused("ensemble_scheduling { } batch_input { }")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("optimization { priority: PRIORITY_MAX }", "optimization has no effect"),
        ('metric_tags { key: "a" value: "b" }', "metric_tags has no effect"),
        ("instance_group { rate_limiter { priority: 1 } }", "rate_limiter of instance_group 0"),
        ('instance_group { name: "g" gpus: [ 0 ] }', "gpus of instance_group g"),
        ("instance_group { kind: KIND_GPU }", "KIND_GPU of instance_group 0"),
        ("instance_group { passive: true }", "instance_group 0 is passive"),
        ('input { name: "x" format: FORMAT_NHWC }', "format of input x has no effect"),
    ],
)
def test_what_is_harmless_is_noted(text: str, note: str) -> None:
    (found,) = parsed(text).notes
    assert found.startswith(note)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: many", "1:17 : 'max_batch_size: many'"),
        ("max_batch: 3", 'no field named "max_batch"'),
        ("name: 'a' name: 'b'", "should not have multiple"),
        ("input {", "Expected"),
        ("max_batch_size: 99999999999", "out of range"),
        ('input { name: "x" data_type: TYPE_FP33 }', "TYPE_FP33"),
        ('input { name: "x" dims: [ 0 ] }', "dimensions of 1 or more, or -1, got [0]"),
        ('input { name: "x" dims: [ -2 ] }', "got [-2]"),
        ('input [ { name: "x" }, { name: "x" } ]', "a name of its own for each input"),
        ("output { dims: [ 1 ] }", "a name of its own for each output"),
        ('input { name: "x" dims: [ 6 ] reshape { shape: [ 4 ] } }', "a reshape to 6 elements"),
        ('input { name: "x" reshape { shape: [ 4 ] } }', "dims that are reshaped"),
        (
            'input { name: "x" dims: [ -1, 6 ] reshape { shape: [ 6, -1 ] } }',
            "a reshape to 1 x free x 6 elements, got one to 6 x free x 1 elements",
        ),
        (
            'input { name: "x" dims: [ -1, -1 ] reshape { shape: [ -1 ] } }',
            "a reshape to 1 x free x 1 x free x 1 elements, got one to 1 x free x 1 elements",
        ),
        ("version_policy { specific { } }", "version numbers from 1"),
        ("version_policy { specific { versions: [ 0 ] } }", "got [0]"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, message: str) -> None:
    assert message in refused(text)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "..", "a\\\\b", "a\\nb"])
def test_file_names_do_not_lead_out_of_their_folder(name: str) -> None:
    assert "the name of a file" in refused(f'default_model_filename: "{name}"')
    assert "the name of a file" in refused(f'output {{ name: "y" label_filename: "{name}" }}')


def test_numbers_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(OptionError, match="preferred_batch_size from 1 to max_batch_size"):
        parsed("max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 8 ] }")


@given(st.text(max_size=60))
def test_text_that_is_none_is_refused_in_one_line(text: str) -> None:
    message = ""
    try:
        parsed(text)
    except HastenError as error:
        message = str(error)
    assert "\n" not in message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(b"name: '\xff'")
    with pytest.raises(ModelError, match="can't decode byte 0xff"):
        read_config(path)
    path.write_bytes(b"#" * (1 << 20) + b"#")
    with pytest.raises(ModelError, match="of at most 1"):
        read_config(path)


def test_without_tritonclient_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'hasten\[triton\]'"):
        parsed("")


def test_reading_imports_no_grpc() -> None:
    program = (
        "import sys; from hasten.serve.repository.config_pbtxt import parse_config;"
        "parse_config('', ''); print([m for m in sys.modules if 'grpc' in m])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "[]"


_NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
_DTYPES = st.sampled_from(["float32", "uint8", "int64", "bfloat16", "bool", "str"])


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    dims = st.lists(st.none() | st.integers(1, 2**31), max_size=4)
    names = draw(st.lists(_NAMES, min_size=2, max_size=4, unique=True))
    specs = tuple(TensorSpec(name, draw(_DTYPES), tuple(draw(dims))) for name in names)
    return Signature(specs[:1], specs[1:])


@given(signatures(), st.integers(0, 64), st.integers(1, 8), _NAMES)
def test_what_a_bundle_is_written_with_reads_back(
    signature: Signature, batch: int, instances: int, name: str
) -> None:
    plan = PlanRecord(
        steps=(),
        runtime="onnxruntime",
        execution={"threads": 1, "instances": instances},
        serving={"max_batch_size": batch},
    )
    record = msgspec.structs.replace(manifest(), name=name, signature=signature, plan=plan)
    found = parsed(config_pbtxt(record))

    assert (found.name, found.runtime) == (name, "onnxruntime")
    assert found.settings.instances == instances
    batched = bool(found.settings.max_batch_size)
    assert found.settings.max_batch_size in {0, batch}
    for specs, tensors in ((signature.inputs, found.inputs), (signature.outputs, found.outputs)):
        for spec, tensor in zip(specs, tensors, strict=True):
            assert (tensor.name, tensor.dtype) == (spec.name, spec.dtype)
            assert tensor.model_dims == (spec.shape[1:] if batched else spec.shape)
