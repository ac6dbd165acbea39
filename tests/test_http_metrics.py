"""Metrics, read back by Prometheus' own parser."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from hasten.serve.engine.statistics import LATENCY_EDGES_NS, ModelStatistics
from hasten.serve.http.metrics import ServerFigures, render_metrics, statistics_document

SERVER = ServerFigures(
    version="1.2",
    uptime_ns=1_500_000_000,
    open_connections=3,
    resident_bytes=80_000_000,
    cache_bytes=1000,
    cache_budget_bytes=2000,
    body_bytes=3000,
    body_budget_bytes=4000,
    answer_bytes=3500,
    bodies_refused=5,
)

TRITON = {
    "nv_inference_request_success": 3,
    "nv_inference_count": 6,
    "nv_inference_exec_count": 2,
    "nv_inference_request_duration_us": 3060,
    "nv_inference_queue_duration_us": 50,
    "nv_inference_compute_input_duration_us": 7,
    "nv_inference_compute_infer_duration_us": 800,
    "nv_inference_compute_output_duration_us": 9,
    "nv_inference_pending_request_count": 4,
    "nv_cache_num_hits_per_model": 1,
    "nv_cache_num_misses_per_model": 2,
    "nv_cache_hit_duration_per_model": 11,
    "nv_cache_miss_duration_per_model": 13,
}


def served() -> ModelStatistics:
    statistics = ModelStatistics(
        queue_ns=50_999,
        compute_input_ns=7_000,
        compute_infer_ns=800_000,
        compute_output_ns=9_000,
        cache_hits=1,
        cache_misses=2,
        cache_hit_ns=11_000,
        cache_miss_ns=13_000,
        cache_saved_ns=400_000_000,
        pending=4,
        last_inference_ms=1_700_000_000_000,
    )
    for latency_ns in (20_000, 40_000, 3_000_000):
        statistics.answered(latency_ns)
    statistics.failed("REJECTED", 5_000)
    statistics.failed("REJECTED", 6_000)
    statistics.executed(2, 2, 1_000, 100_000, 2_000)
    statistics.executed(5, 4, 6_000, 300_000, 7_000)
    return statistics


Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(models: Mapping[tuple[str, int], ModelStatistics]) -> Samples:
    text = render_metrics(models, SERVER).decode()
    samples = [
        sample for family in text_string_to_metric_families(text) for sample in family.samples
    ]
    # The parser gives every counter the ending that Triton's do not have.
    found = {
        (one.name.removesuffix("_total"), frozenset(one.labels.items())): one.value
        for one in samples
    }
    assert len(found) == len(samples)
    return found


def labels(name: str = "mlp", version: str = "1", **more: str) -> frozenset[tuple[str, str]]:
    return frozenset({"model": name, "version": version, **more}.items())


@pytest.mark.parametrize(("name", "value"), TRITON.items())
def test_triton_s_names_hold_what_was_counted_in_its_units(name: str, value: float) -> None:
    assert parsed({("mlp", 1): served()})[name, labels()] == value


def test_a_reason_of_failure_that_did_not_occur_is_zero() -> None:
    samples = parsed({("mlp", 1): served()})
    failures = {
        reason: samples["nv_inference_request_failure", labels(reason=reason)]
        for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    }
    assert failures == {"REJECTED": 2, "CANCELED": 0, "BACKEND": 0, "OTHER": 0}


def test_every_family_has_its_help_and_a_type_that_suits() -> None:
    text = render_metrics({("mlp", 1): served()}, SERVER).decode()
    types = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(family.documentation for family in types.values())
    assert "unknown" not in {family.type for family in types.values()}
    assert types["nv_inference_pending_request_count"].type == "gauge"
    assert types["nv_inference_count"].type == "counter"
    assert types["hasten_request_duration_seconds"].type == "histogram"


def test_the_histogram_of_latencies_is_cumulated_in_seconds() -> None:
    samples = parsed({("mlp", 1): served()})
    name = "hasten_request_duration_seconds"
    buckets = {
        float(dict(at)["le"]): value
        for (one, at), value in samples.items()
        if one == f"{name}_bucket"
    }
    assert len(buckets) == len(LATENCY_EDGES_NS) + 1
    assert sorted(buckets.values()) == [buckets[edge] for edge in sorted(buckets)]
    assert buckets[2e-05] == 1
    assert max(edge for edge, count in buckets.items() if count < 3) < 0.003
    assert buckets[float("inf")] == samples[f"{name}_count", labels()] == 3
    assert samples[f"{name}_sum", labels()] == pytest.approx(0.00306)


def test_sizes_of_batches_fall_into_buckets_that_do_not_come_and_go() -> None:
    samples = parsed({("mlp", 1): served(), ("idle", 1): ModelStatistics()})
    name = "hasten_batch_size"
    counts = [samples[f"{name}_bucket", labels(le=edge)] for edge in ("1", "2", "4", "8", "+Inf")]
    assert counts == [0, 1, 1, 2, 2]
    assert samples[f"{name}_sum", labels()] == 7
    assert samples[f"{name}_bucket", labels("idle", le="1024")] == 0


def test_the_server_s_own_figures_are_there_without_a_model() -> None:
    assert {name: value for (name, _), value in parsed({}).items()} == {
        "hasten_build_info": 1,
        "hasten_cache_bytes": 1000,
        "hasten_cache_budget_bytes": 2000,
        "hasten_body_bytes": 3000,
        "hasten_body_budget_bytes": 4000,
        "hasten_answer_bytes": 3500,
        "hasten_bodies_refused": 5,
        "hasten_resident_memory_bytes": 80_000_000,
        "hasten_open_connections": 3,
        "hasten_uptime_seconds": 1.5,
    }


def test_versions_of_a_model_are_apart() -> None:
    samples = parsed({("mlp", 1): served(), ("mlp", 2): ModelStatistics()})
    assert samples["nv_inference_count", labels(version="1")] == 6
    assert samples["nv_inference_count", labels(version="2")] == 0


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_is_read_back_as_it_was(name: str) -> None:
    assert parsed({(name, 1): ModelStatistics()})["nv_inference_count", labels(name)] == 0


def test_a_name_that_is_no_text_does_no_harm() -> None:
    body = render_metrics({("\udcff", 1): ModelStatistics()}, SERVER)
    assert b'nv_inference_count{model="?",version="1"} 0\n' in body


def test_the_document_of_statistics_has_triton_s_form() -> None:
    (document,) = msgspec.json.decode(statistics_document({("mlp", 3): served()}))["model_stats"]
    assert document == {
        "name": "mlp",
        "version": "3",
        "last_inference": 1_700_000_000_000,
        "inference_count": 6,
        "execution_count": 2,
        "inference_stats": {
            "success": {"count": 3, "ns": 3_060_000},
            "fail": {"count": 2, "ns": 11_000},
            "queue": {"count": 3, "ns": 50_999},
            "compute_input": {"count": 2, "ns": 7_000},
            "compute_infer": {"count": 2, "ns": 800_000},
            "compute_output": {"count": 2, "ns": 9_000},
            "cache_hit": {"count": 1, "ns": 11_000},
            "cache_miss": {"count": 2, "ns": 13_000},
        },
        "batch_stats": [
            {
                "batch_size": size,
                "compute_input": {"count": 1, "ns": times[0]},
                "compute_infer": {"count": 1, "ns": times[1]},
                "compute_output": {"count": 1, "ns": times[2]},
            }
            for size, times in ((2, (1_000, 100_000, 2_000)), (5, (6_000, 300_000, 7_000)))
        ],
    }


def test_a_model_that_served_nothing_has_a_document_too() -> None:
    (document,) = msgspec.json.decode(statistics_document({("m", 1): ModelStatistics()}))[
        "model_stats"
    ]
    assert document["batch_stats"] == []
    assert document["inference_stats"]["success"] == {"count": 0, "ns": 0}
