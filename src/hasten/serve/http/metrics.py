"""What was counted, as Prometheus and Triton's clients read it.

Names, units and meanings of ``nv_*`` are Triton's (its docs/user_guide/metrics.md), so dashboards
made for Triton work; ``hasten_*`` are our own. The document of statistics follows Triton's
statistics extension (docs/protocol/extension_statistics.md). Nothing here counts: a request pays
for metrics only when somebody asks for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from hasten.serve.engine.statistics import (
    LATENCY_EDGES_NS,
    BatchStatistics,
    FailureReason,
    ModelStatistics,
)
from hasten.serve.http.steps import drained

__all__ = [
    "CONTENT_TYPE",
    "ServerFigures",
    "metrics_steps",
    "render_metrics",
    "statistics_document",
]

#: The Content-Type of what render_metrics returns.
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Upper edges of the histogram of batch sizes; fixed, because a bucket may not come and go.
_SIZE_EDGES: tuple[int, ...] = tuple(2**at for at in range(11))

_SIZE_BOUNDS = tuple(f'le="{edge}"' for edge in _SIZE_EDGES)
_LATENCY_BOUNDS = tuple(f'le="{edge / 1e9:.6g}"' for edge in LATENCY_EDGES_NS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFigures:
    """What belongs to the whole server and to no model."""

    version: str
    uptime_ns: int
    open_connections: int
    resident_bytes: int
    #: What the response cache holds and may hold.
    cache_bytes: int = 0
    cache_budget_bytes: int = 0
    #: What bodies of requests hold and may hold, what answers hold of as much, and how many
    #: requests were refused for either.
    body_bytes: int = 0
    body_budget_bytes: int = 0
    answer_bytes: int = 0
    bodies_refused: int = 0


class _Family(NamedTuple):
    name: str
    kind: Literal["counter", "gauge"]
    help: str
    value: Callable[[ModelStatistics], float]


_FAMILIES = (
    _Family(
        "nv_inference_request_success",
        "counter",
        "Requests answered, whatever the size of their batch",
        lambda model: model.success_requests,
    ),
    _Family(
        "nv_inference_count",
        "counter",
        "Rows inferred, without those from the cache",
        lambda model: model.inferences,
    ),
    _Family(
        "nv_inference_exec_count",
        "counter",
        "Batches executed",
        lambda model: model.executions,
    ),
    _Family(
        "nv_inference_request_duration_us",
        "counter",
        "Microseconds from arrival to answer, over all requests answered",
        lambda model: model.success_ns // 1000,
    ),
    _Family(
        "nv_inference_queue_duration_us",
        "counter",
        "Microseconds that requests waited for an executor",
        lambda model: model.queue_ns // 1000,
    ),
    _Family(
        "nv_inference_compute_input_duration_us",
        "counter",
        "Microseconds in which requests had their inputs gathered, without those from the cache",
        lambda model: model.compute_input_ns // 1000,
    ),
    _Family(
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Microseconds in which requests had the model run, without those from the cache",
        lambda model: model.compute_infer_ns // 1000,
    ),
    _Family(
        "nv_inference_compute_output_duration_us",
        "counter",
        "Microseconds in which requests had their outputs split, without those from the cache",
        lambda model: model.compute_output_ns // 1000,
    ),
    _Family(
        "nv_inference_pending_request_count",
        "gauge",
        "Requests that wait for an executor now",
        lambda model: model.pending,
    ),
    _Family(
        "nv_cache_num_hits_per_model",
        "counter",
        "Requests answered from the response cache",
        lambda model: model.cache_hits,
    ),
    _Family(
        "nv_cache_num_misses_per_model",
        "counter",
        "Requests that the response cache could not answer",
        lambda model: model.cache_misses,
    ),
    _Family(
        "nv_cache_hit_duration_per_model",
        "counter",
        "Microseconds that looking up took on hits",
        lambda model: model.cache_hit_ns // 1000,
    ),
    _Family(
        "nv_cache_miss_duration_per_model",
        "counter",
        "Microseconds that looking up and inserting took on misses",
        lambda model: model.cache_miss_ns // 1000,
    ),
    _Family(
        "hasten_cache_saved_seconds_total",
        "counter",
        "Computing that hits made unnecessary",
        lambda model: model.cache_saved_ns / 1e9,
    ),
    _Family(
        "hasten_batch_reruns_total",
        "counter",
        "Runs of parts of batches that failed, to answer those who did not make them fail",
        lambda model: model.reruns,
    ),
    _Family(
        "hasten_requests_apart_total",
        "counter",
        "Requests run by themselves because inputs of their client had failed before",
        lambda model: model.apart,
    ),
)


def render_metrics(
    models: Mapping[tuple[str, int], ModelStatistics], server: ServerFigures
) -> bytes:
    """Return what ``GET /metrics`` answers, in Prometheus' text format 0.0.4.

    Models are known by name and version. A model that has served nothing yet is there with zeros.

    >>> figures = ServerFigures(version="1", uptime_ns=0, open_connections=3, resident_bytes=0)
    >>> print(render_metrics({}, figures).decode().splitlines()[-4])
    hasten_open_connections 3
    """
    return drained(metrics_steps(models, server))


def metrics_steps(
    models: Mapping[tuple[str, int], ModelStatistics], server: ServerFigures
) -> Generator[None, None, bytes]:
    """Do what render_metrics does, a model in each step."""
    families: dict[str, list[str]] = {}
    for (name, version), statistics in models.items():
        at = f'model="{_escaped(name)}",version="{version}"'
        for opening, samples in _families(at, statistics):
            families.setdefault(opening, []).append("\n".join(samples))
        yield
    lines = [line for opening, samples in families.items() for line in (opening, *samples)]
    lines += _server_lines(server)
    # A name from a file system may hold bytes that are no text.
    return ("\n".join(lines) + "\n").encode("utf-8", errors="replace")


def _families(at: str, one: ModelStatistics) -> Iterator[tuple[str, Iterable[str]]]:
    """Yield how each family begins, and what it has of one model."""
    for family in _FAMILIES:
        opening = _opening(family.name, family.kind, family.help)
        yield opening, (f"{family.name}{{{at}}} {family.value(one)}",)
    name = "nv_inference_request_failure"
    yield (
        _opening(name, "counter", "Requests that were not answered, by reason"),
        (
            f'{name}{{{at},reason="{reason}"}} {one.failures.get(reason, 0)}'
            for reason in get_args(FailureReason)
        ),
    )
    name = "hasten_request_duration_seconds"
    yield (
        _opening(name, "histogram", "Seconds from arrival to answer of the requests answered"),
        _histogram(name, at, _LATENCY_BOUNDS, one.latency_counts, one.success_ns / 1e9),
    )
    name = "hasten_batch_size"
    counts = [0] * (len(_SIZE_EDGES) + 1)
    for size, batch in one.batches.items():
        counts[bisect_left(_SIZE_EDGES, size)] += batch.count
    total = sum(size * batch.count for size, batch in one.batches.items())
    yield (
        _opening(name, "histogram", "Sizes of the batches executed, padding included"),
        _histogram(name, at, _SIZE_BOUNDS, counts, total),
    )


def _opening(name: str, kind: str, meaning: str) -> str:
    return f"# HELP {name} {meaning}\n# TYPE {name} {kind}"


def _family(name: str, kind: str, meaning: str, samples: Iterable[str]) -> Iterator[str]:
    yield _opening(name, kind, meaning)
    yield from samples


def _escaped(value: str) -> str:
    r"""Return a label's value as the format wants it.

    >>> print(_escaped('a "b"\\'))
    a \"b\"\\
    """
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _histogram(
    name: str, labels: str, bounds: Sequence[str], counts: Sequence[int], total: float
) -> Iterator[str]:
    """Counts are one for each bound and one for all above; the format wants them cumulated."""
    risen = list(accumulate(counts))
    for bound, count in zip((*bounds, 'le="+Inf"'), risen, strict=True):
        yield f"{name}_bucket{{{labels},{bound}}} {count}"
    yield f"{name}_sum{{{labels}}} {total}"
    yield f"{name}_count{{{labels}}} {risen[-1]}"


def _server_lines(server: ServerFigures) -> Iterator[str]:
    gauges = (
        ("hasten_cache_bytes", "Bytes that the response cache holds", server.cache_bytes),
        (
            "hasten_cache_budget_bytes",
            "Bytes that the response cache may hold",
            server.cache_budget_bytes,
        ),
        (
            "hasten_resident_memory_bytes",
            "Bytes of the server that are resident in memory",
            server.resident_bytes,
        ),
        ("hasten_body_bytes", "Bytes that bodies of requests hold", server.body_bytes),
        (
            "hasten_body_budget_bytes",
            "Bytes that bodies of requests may hold",
            server.body_budget_bytes,
        ),
        (
            "hasten_answer_bytes",
            "Bytes that answers hold which are computed or not taken",
            server.answer_bytes,
        ),
        ("hasten_open_connections", "Connections that are open", server.open_connections),
        ("hasten_uptime_seconds", "Seconds since the server started", server.uptime_ns / 1e9),
    )
    info = f'{{version="{_escaped(server.version)}"}} 1'
    name = "hasten_build_info"
    yield from _family(name, "gauge", "The version that serves", [name + info])
    name = "hasten_bodies_refused_total"
    meaning = "Requests refused for want of room for bodies or answers"
    yield from _family(name, "counter", meaning, [f"{name} {server.bodies_refused}"])
    for name, meaning, value in gauges:
        yield from _family(name, "gauge", meaning, [f"{name} {value}"])


def statistics_document(models: Mapping[tuple[str, int], ModelStatistics]) -> bytes:
    """Return what ``GET /v2/models/M/stats`` answers: JSON with one entry for each of these models.

    Queueing is counted over all requests answered, computing over those not from the cache.
    """
    return msgspec.json.encode(
        {
            "model_stats": [
                _model_document(name, version, statistics)
                for (name, version), statistics in models.items()
            ]
        }
    )


def _model_document(name: str, version: int, model: ModelStatistics) -> dict[str, Any]:
    computed = max(0, model.success_requests - model.cache_hits)
    return {
        "name": name,
        "version": str(version),
        "last_inference": model.last_inference_ms,
        "inference_count": model.inferences,
        "execution_count": model.executions,
        "inference_stats": {
            "success": _duration(model.success_requests, model.success_ns),
            "fail": _duration(sum(model.failures.values()), model.failure_ns),
            "queue": _duration(model.success_requests, model.queue_ns),
            "compute_input": _duration(computed, model.compute_input_ns),
            "compute_infer": _duration(computed, model.compute_infer_ns),
            "compute_output": _duration(computed, model.compute_output_ns),
            "cache_hit": _duration(model.cache_hits, model.cache_hit_ns),
            "cache_miss": _duration(model.cache_misses, model.cache_miss_ns),
        },
        "batch_stats": [
            _batch_document(size, batch) for size, batch in sorted(model.batches.items())
        ],
    }


def _batch_document(size: int, batch: BatchStatistics) -> dict[str, Any]:
    return {
        "batch_size": size,
        "compute_input": _duration(batch.count, batch.compute_input_ns),
        "compute_infer": _duration(batch.count, batch.compute_infer_ns),
        "compute_output": _duration(batch.count, batch.compute_output_ns),
    }


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
