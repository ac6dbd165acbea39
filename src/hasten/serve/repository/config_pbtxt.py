"""config.pbtxt, Triton's description of a model, as far as it is served here.

Sources: Triton's model_config.proto, and "Model Configuration" in its user guide. What is set and
would change the answers, but is not served, is refused by name; what only tunes Triton is noted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from hasten.bundle.config_pbtxt import TRITON_TYPES
from hasten.errors import ModelError, OptionError
from hasten.plain_file import read_plain_text
from hasten.runtimes import RUNTIMES
from hasten.serve.engine.settings import (
    DynamicBatching,
    ModelWarmup,
    QueuePolicy,
    ServingSettings,
    WarmupInput,
    check,
)
from hasten.serve.repository.model_config_proto import parse_proto

__all__ = ["ModelConfig", "TensorConfig", "parse_config", "read_config"]

_MAX_BYTES = 1 << 20
_DTYPES = {word: dtype for dtype, word in TRITON_TYPES.items()}
#: Backends and platforms, in Triton's words and in those of our bundles.
_RUNTIMES = {
    "onnxruntime": "onnxruntime",
    "onnxruntime_onnx": "onnxruntime",
    "tflite": "litert",
    "armnn_tflite": "litert",
    "openvino": "openvino",
    "pytorch": "pytorch",
    "null": "null",
}
_SERVED = {
    "name",
    "platform",
    "backend",
    "default_model_filename",
    "version_policy",
    "max_batch_size",
    "input",
    "output",
    "dynamic_batching",
    "instance_group",
    "response_cache",
    "parameters",
    "model_transaction_policy",
    "model_warmup",
}
#: What tunes or describes only, and why nothing is done about it.
_NOTED = {
    "runtime": "the runtime is hasten's own",
    "optimization": "the runtime's own settings apply",
    "cc_model_filenames": "files by compute capability are for GPUs; the default file is served",
    "metric_tags": "metrics carry the model's name and version only",
    "model_metrics": "histograms have edges of their own",
}
_NOTED_OF_GROUPS = {
    "rate_limiter": "instances share the cores evenly",
    "gpus": "the device is the plan's",
    "secondary_devices": "the device is the plan's",
    "profile": "profiles are TensorRT's",
    "host_policy": "instances run on any core",
}
_REFUSED_OF_TENSORS = ("is_shape_tensor", "allow_ragged_batch", "optional")
#: ONNX Runtime's parameter in Triton for what ``threads`` is here; 0 leaves it to the runtime.
_THREADS = "intra_op_thread_count"


class TensorConfig(msgspec.Struct, frozen=True, kw_only=True):
    """An input or output as clients see it; None where config.pbtxt leaves it to the model file.

    ``dims`` hold None for a free dimension and leave a batch out; ``reshape`` is what the model
    itself has in their place. ``label_filename`` holds a class name a line.
    """

    name: str
    dtype: str | None = None
    dims: tuple[int | None, ...] | None = None
    reshape: tuple[int | None, ...] | None = None
    label_filename: str = ""

    @property
    def model_dims(self) -> tuple[int | None, ...] | None:
        """Dimensions of the model's own tensor, without a batch."""
        return self.dims if self.reshape is None else self.reshape


class ModelConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of a config.pbtxt.

    ``runtime`` is empty where neither backend nor platform is set, ``latest`` is how many of the
    latest versions are served where ``settings.version_policy`` says latest. ``notes`` are lines on
    what is set and has no effect here.
    """

    where: str
    name: str = ""
    platform: str = ""
    backend: str = ""
    runtime: str = ""
    default_model_filename: str = ""
    inputs: tuple[TensorConfig, ...] = ()
    outputs: tuple[TensorConfig, ...] = ()
    settings: ServingSettings = ServingSettings()
    latest: int = 1
    parameters: dict[str, str] = {}
    notes: tuple[str, ...] = ()

    @property
    def leaves_batch_open(self) -> bool:
        """Whether the batch is for the model file to say, as in Triton's auto-complete."""
        return self.settings.max_batch_size == 0 and not self.inputs and not self.outputs


def read_config(path: Path) -> ModelConfig:
    """Read a config.pbtxt; raises what ``parse_config`` does, and ModelError where it cannot."""
    expected = "a config.pbtxt of text"
    text = read_plain_text(path, expected=expected, error=ModelError, max_bytes=_MAX_BYTES)
    return parse_config(text, str(path))


def parse_config(text: str, where: str) -> ModelConfig:
    """Read the text of a config.pbtxt; ``where`` is for messages.

    Raises ModelError for text that is no ModelConfig, and with the names of all fields that are
    not served; OptionError for numbers that contradict one another; MissingExtraError without the
    packages that define the format.
    """
    proto = parse_proto(text, where)
    _refuse(proto, where)
    parameters = {key: value.string_value for key, value in proto.parameters.items()}
    threads = _threads(parameters, where)
    policy, latest = _version_policy(proto, where)
    settings = ServingSettings(
        max_batch_size=proto.max_batch_size,
        dynamic_batching=_batching(proto),
        instances=_instances(proto),
        threads=threads,
        response_cache=proto.response_cache.enable,
        version_policy=policy,
        model_warmup=_warmup(proto, Path(where).parent),
    )
    check(settings, where)
    return ModelConfig(
        where=where,
        name=proto.name,
        platform=proto.platform,
        backend=proto.backend,
        runtime=_runtime(proto, where),
        default_model_filename=_file_name(proto.default_model_filename, where),
        inputs=_tensors(proto.input, "input", where),
        outputs=_tensors(proto.output, "output", where),
        settings=settings,
        latest=latest,
        parameters=parameters,
        notes=tuple(_notes(proto, parameters)),
    )


def _refuse(proto: Any, where: str) -> None:
    """Raise ModelError that names every field of consequence that is not served."""
    known = _SERVED | _NOTED.keys()
    names = [field.name for field, _ in proto.ListFields() if field.name not in known]
    if proto.model_transaction_policy.decoupled:
        names.append("model_transaction_policy.decoupled")
    for role, tensors in (("input", proto.input), ("output", proto.output)):
        for tensor in tensors:
            names += [
                f"{field} of {role} {tensor.name}"
                for field in _REFUSED_OF_TENSORS
                if getattr(tensor, field, False)
            ]
    if names:
        raise ModelError(
            expected="a model that is served request by request or in dynamic batches",
            got=", ".join(names),
            where=where,
            hint="hasten does not serve these; remove them or serve the model with Triton",
        )


def _runtime(proto: Any, where: str) -> str:
    """Return our name of the runtime; empty where the model file decides."""
    for kind in ("backend", "platform"):
        word = getattr(proto, kind)
        if word and word not in _RUNTIMES:
            raise ModelError(
                expected=f"a {kind} that is one of {', '.join(_RUNTIMES)}",
                got=repr(word),
                where=where,
            )
    name = _RUNTIMES.get(proto.backend or proto.platform, "")
    return name if name in RUNTIMES else ""


def _file_name(name: str, where: str) -> str:
    if name in {".", ".."} or not name.isprintable() or "/" in name or "\\" in name:
        raise ModelError(
            expected="the name of a file in the version's folder",
            got=repr(name),
            where=f"{where}: default_model_filename",
        )
    return name


def _version_policy(proto: Any, where: str) -> tuple[Any, int]:
    policy = proto.version_policy
    chosen = policy.WhichOneof("policy_choice") or "latest"
    if chosen == "all":
        return "all", 1
    if chosen == "latest":
        return "latest", policy.latest.num_versions or 1
    versions = tuple(sorted(set(policy.specific.versions)))
    if not versions or versions[0] < 1:
        raise ModelError(
            expected="version numbers from 1",
            got=str(list(versions)),
            where=f"{where}: version_policy.specific",
        )
    return versions, 1


def _batching(proto: Any) -> DynamicBatching | None:
    if not proto.HasField("dynamic_batching"):
        return None
    batching = proto.dynamic_batching
    return DynamicBatching(
        preferred_batch_size=tuple(batching.preferred_batch_size),
        max_queue_delay_microseconds=batching.max_queue_delay_microseconds,
        preserve_ordering=batching.preserve_ordering,
        priority_levels=batching.priority_levels,
        default_priority_level=batching.default_priority_level,
        default_queue_policy=_queue_policy(batching.default_queue_policy),
        priority_queue_policy={
            level: _queue_policy(policy)
            for level, policy in sorted(batching.priority_queue_policy.items())
        },
    )


def _warmup(proto: Any, folder: Path) -> tuple[ModelWarmup, ...]:
    """Return what the model is warmed up with; files lie in the folder ``warmup`` of the model."""
    return tuple(
        ModelWarmup(
            name=one.name,
            batch_size=max(1, one.batch_size),
            inputs={
                name: WarmupInput(
                    dims=tuple(given.dims),
                    data="zero" if given.zero_data else "random",
                    file=_warmup_file(given.input_data_file, folder),
                )
                for name, given in sorted(one.inputs.items())
            },
        )
        for one in proto.model_warmup
    )


def _warmup_file(name: str, folder: Path) -> str:
    if not name:
        return ""
    return str(folder / "warmup" / _file_name(name, f"{folder / 'config.pbtxt'}: model_warmup"))


def _queue_policy(policy: Any) -> QueuePolicy:
    delays = policy.timeout_action == policy.TimeoutAction.Value("DELAY")
    return QueuePolicy(
        timeout_action="DELAY" if delays else "REJECT",
        default_timeout_microseconds=policy.default_timeout_microseconds,
        allow_timeout_override=policy.allow_timeout_override,
        max_queue_size=policy.max_queue_size,
    )


def _instances(proto: Any) -> int | None:
    """Sum the groups that take requests; one without a count has one instance."""
    counts = [group.count or 1 for group in proto.instance_group if not group.passive]
    return sum(counts) if counts else None


def _threads(parameters: dict[str, str], where: str) -> int | None:
    text = parameters.get(_THREADS, "0").strip()
    if not text.isdecimal():
        raise OptionError(
            expected="a number of threads", got=repr(text), where=f"{where}: parameters.{_THREADS}"
        )
    return int(text) or None


def _tensors(tensors: Any, role: str, where: str) -> tuple[TensorConfig, ...]:
    names = [tensor.name for tensor in tensors]
    if len(set(names)) != len(names) or "" in names:
        raise ModelError(
            expected=f"a name of its own for each {role}",
            got=", ".join(map(repr, names)),
            where=where,
        )
    return tuple(_tensor(tensor, f"{where}: {role} {tensor.name}") for tensor in tensors)


def _tensor(tensor: Any, where: str) -> TensorConfig:
    word = tensor.DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
    dims = _dims(tensor.dims, where) if len(tensor.dims) else None
    reshape = _dims(tensor.reshape.shape, where) if tensor.HasField("reshape") else None
    if reshape is not None:
        _require_elements(dims, reshape, where)
    return TensorConfig(
        name=tensor.name,
        dtype=_DTYPES.get(word[tensor.data_type].name),
        dims=dims,
        reshape=reshape,
        label_filename=_file_name(getattr(tensor, "label_filename", ""), where),
    )


def _require_elements(
    dims: tuple[int | None, ...] | None, reshape: tuple[int | None, ...], where: str
) -> None:
    """Refuse a reshape that is not of as many elements, before, between and after free dimensions.

    So the free dimensions of the one are those of the other, as in Triton.
    """
    if dims is None:
        raise ModelError(expected="dims that are reshaped", got="a reshape alone", where=where)
    have, want = _products(dims), _products(reshape)
    if have != want:
        raise ModelError(
            expected=f"a reshape to {_elements(have)}", got=f"one to {_elements(want)}", where=where
        )


def _products(dims: tuple[int | None, ...]) -> list[int]:
    """Multiply the dimensions before, between and after those that are free."""
    products = [1]
    for dim in dims:
        if dim is None:
            products.append(1)
        else:
            products[-1] *= dim
    return products


def _elements(products: list[int]) -> str:
    """Say how many elements there are.

    >>> _elements([6]), _elements([1, 6])
    ('6 elements', '1 x free x 6 elements')
    """
    return " x free x ".join(map(str, products)) + " elements"


def _dims(numbers: Any, where: str) -> tuple[int | None, ...]:
    dims = tuple(int(number) for number in numbers)
    if any(dim < 1 and dim != -1 for dim in dims):
        raise ModelError(
            expected="dimensions of 1 or more, or -1", got=str(list(dims)), where=where
        )
    return tuple(None if dim == -1 else dim for dim in dims)


def _notes(proto: Any, parameters: dict[str, str]) -> list[str]:
    notes = [
        f"{field.name} has no effect: {_NOTED[field.name]}"
        for field, _ in proto.ListFields()
        if field.name in _NOTED
    ]
    for at, group in enumerate(proto.instance_group):
        label = f"instance_group {group.name or at}"
        set_here = {field.name for field, _ in group.ListFields()}
        notes += [
            f"{name} of {label} has no effect: {reason}"
            for name, reason in _NOTED_OF_GROUPS.items()
            if name in set_here
        ]
        if group.passive:
            notes.append(f"{label} is passive: its instances are not made")
        if group.kind == group.Kind.Value("KIND_GPU"):
            notes.append(f"KIND_GPU of {label} has no effect: the device is the plan's")
    for tensor in proto.input:
        if tensor.format:
            notes.append(f"format of input {tensor.name} has no effect: dims say the layout")
    others = sorted(parameters.keys() - {_THREADS})
    if others:
        notes.append(f"parameters without effect: {', '.join(others)}")
    return notes
