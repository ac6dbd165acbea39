"""How a model is served, in Triton's words: batching, queueing, instances, cache.

One record holds what config.pbtxt, the JSON form and a bundle's plan may say. Fields that are
Triton's have its names, units and defaults (model_config.proto: ModelDynamicBatching,
ModelQueuePolicy, ModelInstanceGroup, ModelResponseCache).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hasten.errors import OptionError

__all__ = [
    "DynamicBatching",
    "LengthBuckets",
    "ModelWarmup",
    "QueuePolicy",
    "ServingSettings",
    "TimeoutAction",
    "WarmupInput",
    "check",
    "parse_settings",
]

#: What happens to a request that waited longer than its timeout: refused, or served last.
TimeoutAction = Literal["REJECT", "DELAY"]


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of one priority's queue; zeros bound nothing.

    With ``allow_timeout_override`` a request may ask for a shorter timeout than the default.
    """

    timeout_action: TimeoutAction = "REJECT"
    default_timeout_microseconds: int = 0
    allow_timeout_override: bool = False
    max_queue_size: int = 0


class DynamicBatching(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How waiting requests become batches.

    A batch is dispatched as soon as an executor is free, unless ``max_queue_delay_microseconds``
    lets it wait for one of ``preferred_batch_size``. Priorities are 1 (first) to
    ``priority_levels``; 0 levels mean that there are none.
    """

    preferred_batch_size: tuple[int, ...] = ()
    max_queue_delay_microseconds: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0
    default_queue_policy: QueuePolicy = QueuePolicy()
    priority_queue_policy: dict[int, QueuePolicy] = {}

    def policy(self, priority: int) -> QueuePolicy:
        """Return the bounds of this priority's queue."""
        return self.priority_queue_policy.get(priority, self.default_queue_policy)


class LengthBuckets(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Inputs of unlike lengths in one batch: padded along axis 1 to the next of ``lengths``.

    ``mask`` names the input that tells the model what is padding (1 real, 0 padding); it is made
    where a request has none. Outputs that are as long as their bucket are cut back.
    """

    lengths: tuple[int, ...]
    mask: str
    pad_value: float = 0


class WarmupInput(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one input is made up: its shape without the batch, and what is in it.

    Integers lie from ``low`` to ``high``. ``file`` holds the raw bytes of one sample, or of all of
    a batch; texts have their length before them, in four bytes, least significant first.
    """

    dims: tuple[int, ...] = ()
    data: Literal["random", "zero"] = "random"
    low: int = 0
    high: int = 1
    file: str = ""


class ModelWarmup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to make up a request that the model takes, as Triton's ModelWarmup says it.

    ``name`` is for people; ``batch_size`` has no effect, for every size that is used is warmed up.
    """

    name: str = ""
    batch_size: int = 1
    inputs: dict[str, WarmupInput] = {}


class ServingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All of it for one model.

    ``max_batch_size`` 0 serves each request alone and its shapes as they are; None lets the
    warm-up measure how large a batch pays. ``instances`` None is as many as the plan has.
    ``latency_goal_ms`` caps batches so that waiting and computing fit, and refuses what cannot.
    """

    max_batch_size: int | None = None
    dynamic_batching: DynamicBatching | None = DynamicBatching()
    instances: int | None = None
    threads: int | None = None
    latency_goal_ms: float | None = None
    length_buckets: LengthBuckets | None = None
    response_cache: bool = False
    version_policy: Literal["latest", "all"] | tuple[int, ...] = "latest"
    #: Inputs to warm up with; where there are none, or none runs, they are made up.
    model_warmup: tuple[ModelWarmup, ...] = ()
    #: Run on the event loop's own thread what takes little time; None: where that is measured to
    #: be cheaper.
    inline: bool | None = None
    #: The longest that one run may take; None is a minute, or a hundred times what the largest
    #: batch took when it was warmed up.
    execution_limit_ms: float | None = None

    @property
    def batching(self) -> DynamicBatching:
        """Settings of the batcher; those of no batching where it is off."""
        return self.dynamic_batching or DynamicBatching()


def parse_settings(text: bytes | str, where: str) -> ServingSettings:
    """Read the JSON form, in which ``dynamic_batching`` may hold ``max_batch_size`` too.

    Raises OptionError with the path of what is wrong.

    >>> parse_settings('{"dynamic_batching": {"max_batch_size": 32}}', "--config").max_batch_size
    32
    """
    try:
        document = msgspec.json.decode(text)
        batching = document.get("dynamic_batching") if isinstance(document, dict) else None
        if isinstance(batching, dict) and "max_batch_size" in batching:
            document.setdefault("max_batch_size", batching.pop("max_batch_size"))
        settings = msgspec.convert(document, ServingSettings, str_keys=True)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OptionError(
            expected="serving settings as JSON", got=str(error), where=where
        ) from error
    check(settings, where)
    return settings


def check(settings: ServingSettings, where: str) -> None:
    """Raise OptionError for numbers that contradict one another."""
    batching = settings.batching
    largest = settings.max_batch_size
    levels = batching.priority_levels
    goal = settings.latency_goal_ms
    buckets = settings.length_buckets
    wrong = [
        (largest is not None and largest < 0, "max_batch_size of 0 or more", largest),
        (
            any(size < 1 or (largest and size > largest) for size in batching.preferred_batch_size),
            f"preferred_batch_size from 1 to max_batch_size ({largest})",
            list(batching.preferred_batch_size),
        ),
        (
            batching.max_queue_delay_microseconds < 0,
            "max_queue_delay_microseconds of 0 or more",
            batching.max_queue_delay_microseconds,
        ),
        (
            levels > 0 and not 1 <= batching.default_priority_level <= levels,
            f"default_priority_level from 1 to {levels}",
            batching.default_priority_level,
        ),
        (
            settings.instances is not None and settings.instances < 1,
            "instances of 1 or more",
            settings.instances,
        ),
        (
            settings.execution_limit_ms is not None and not settings.execution_limit_ms > 0,
            "execution_limit_ms above 0",
            settings.execution_limit_ms,
        ),
        (
            settings.threads is not None and settings.threads < 1,
            "threads of 1 or more",
            settings.threads,
        ),
        (goal is not None and goal <= 0, "latency_goal_ms above 0", goal),
        *(
            (
                any(dim < 0 for dim in one.dims) or one.low > one.high,
                "model_warmup with dims of 0 or more, and low up to high",
                f"dims {list(one.dims)}, low {one.low}, high {one.high} of {name}",
            )
            for warmup in settings.model_warmup
            for name, one in warmup.inputs.items()
        ),
        (
            buckets is not None
            and (not buckets.lengths or list(buckets.lengths) != sorted(set(buckets.lengths))),
            "length_buckets.lengths that rise",
            buckets and list(buckets.lengths),
        ),
    ]
    for is_wrong, expected, got in wrong:
        if is_wrong:
            raise OptionError(expected=expected, got=str(got), where=where)
