"""Manifests as a real run would leave them, for tests of what reads bundle.json."""

# ruff: noqa: E501 - the table of candidates reads as a table

from __future__ import annotations

from typing import Any

from hasten.bundle.manifest import (
    Artifact,
    BudgetRecord,
    CandidateRecord,
    Evidence,
    Interval,
    Latency,
    LedgerEntry,
    Manifest,
    PlanRecord,
    Side,
    Status,
)
from hasten.graph import AppliedStep, Signature, TensorSpec

#: label, status, p50 in ms, metric, megabytes, peak megabytes, reason
_CANDIDATES: tuple[tuple[str, Status, float | None, float | None, float | None, float, str], ...] = (
    ("static_int8 u8 entropy, openvino, 2 threads", "won", 2.31, 0.8689, 3.61, 171, ""),
    ("static_int8 u8 mse, openvino, 2 threads", "lost", 2.34, 0.8674, 3.61, 171, "no measurable difference to the chosen; its metric is lower"),
    ("static_int8 u8 percentile, openvino, 2 threads", "lost", 2.36, 0.8689, 3.61, 171, "no measurable difference to the chosen"),
    ("static_int8 u8 minmax, openvino, 2 threads", "over_budget", 2.30, 0.8598, 3.61, 170, "top1 fell by 1.06 points; 0.50 are allowed"),
    ("static_int8 u8 entropy, onnxruntime, 2 threads", "lost", 2.40, 0.8692, 3.61, 142, "4 % behind the chosen in the finals [1.01, 1.07]"),
    ("static_int8 u8 mse, onnxruntime, 2 threads", "lost", 2.42, 0.8677, 3.61, 142, "behind the leader after round 40"),
    ("static_int8 u8 minmax, onnxruntime, 2 threads", "over_budget", 2.41, 0.8593, 3.61, 142, "top1 fell by 1.11 points; 0.50 are allowed"),
    ("static_int8 u8 entropy, onnxruntime, 1 thread", "lost", 2.82, None, 3.61, 139, "behind the leader after round 24"),
    ("static_int8 u8 entropy, openvino, 1 thread", "lost", 3.50, None, 3.61, 166, "behind the leader after round 12"),
    ("bf16, openvino, 2 threads", "lost", 2.85, 0.8704, 13.6, 214, "behind the chosen in the finals [1.19, 1.27]"),
    ("bf16, openvino, 1 thread", "lost", 3.42, None, 13.6, 209, "behind the leader after round 12"),
    ("static_int8 s8 entropy, onnxruntime, 1 thread", "lost", 4.64, None, 3.61, 140, "behind the leader after round 6"),
    ("static_int8 s8 entropy, onnxruntime, 2 threads", "lost", 5.69, None, 3.61, 143, "behind the leader after round 6"),
    ("as-is, openvino f32, 2 threads", "lost", 4.74, 0.8707, 13.6, 202, "behind the leader after round 6"),
    ("as-is, openvino f32, 1 thread", "lost", 5.98, None, 13.6, 196, "behind the leader after round 6"),
    ("as-is, onnxruntime, 2 threads", "lost", 5.45, 0.8704, 13.6, 158, "behind the leader after round 6"),
    ("as-is, onnxruntime, 1 thread", "lost", 7.49, None, 13.6, 155, "behind the leader after round 6"),
    ("as-is, pytorch compiled, 2 threads", "lost", 7.06, 0.8704, 13.6, 812, "behind the leader after round 6"),
    ("pytorch eager, 2 threads", "lost", 14.2, 0.8704, 13.6, 604, "this is the reference"),
    ("dynamic_int8, onnxruntime, 1 thread", "lost", 17.7, None, 3.70, 150, "slower than the reference after round 3"),
    ("dynamic_int8, onnxruntime, 2 threads", "lost", 14.1, None, 3.70, 151, "no measurable difference to the reference"),
    ("dynamic_int8, openvino, 2 threads", "lost", 231.0, None, 3.70, 290, "slower than the reference after round 3"),
    ("static_int8 s8 minmax, openvino, 2 threads", "over_budget", 2.52, 0.5122, 3.61, 171, "top1 fell by 35.82 points; 0.50 are allowed"),
    ("fold-input static_int8 u8 entropy, openvino, 2 threads", "failed", 2.18, None, 3.61, 171, "outputs hold NaN in round 7"),
    ("bf16, onnxruntime, 2 threads", "refused", None, None, None, 0, "onnxruntime has no bf16 kernels on this CPU"),
    ("bf16, onnxruntime, 1 thread", "refused", None, None, None, 0, "onnxruntime has no bf16 kernels on this CPU"),
    ("fp16, openvino, 2 threads", "refused", None, None, None, 0, "the CPU has no avx512_fp16; openvino would run fp32"),
    ("as-is, litert, 2 threads", "refused", None, None, None, 0, "litert runs .tflite files, and this model came as ONNX"),
    ("static_int8 u8 entropy, pytorch, 2 threads", "failed", None, None, None, 0, "worker killed by signal 11 (SIGSEGV) while compiling"),
    ("as-is, pytorch max-autotune, 2 threads", "failed", None, None, None, 0, "no answer within 60 s while compiling; the worker was stopped"),
)  # fmt: skip

REFERENCE = "pytorch eager, 2 threads"
CHOSEN = "static_int8 u8 entropy, openvino, 2 threads"


def latency(p50: float) -> Latency:
    """A latency with a tail such as a quiet machine shows."""
    return Latency(p50, round(1.06 * p50, 3), round(1.21 * p50, 3))


def candidates() -> tuple[CandidateRecord, ...]:
    """Thirty candidates, of every status."""
    return tuple(
        CandidateRecord(
            label=label,
            steps=(AppliedStep(label.split()[0].rstrip(",")),),
            runtime=label.split(", ")[-2] if ", " in label else label,
            execution={"device": "cpu", "threads": int(label.split()[-2])},
            status=status,
            reason=reason,
            latency_ms=latency(p50) if p50 else None,
            speedup=Interval(14.2 / p50, 13.8 / p50, 14.5 / p50) if p50 else None,
            metric=metric,
            metric_details={"agreement": 0.9924, "sqnr_db": 24.61} if status == "won" else {},
            size_bytes=int(size * 1e6) if size else None,
            peak_memory_bytes=int(peak * 1e6) if peak else None,
        )
        for label, status, p50, metric, size, peak, reason in _CANDIDATES
    )


def evidence(**changes: Any) -> Evidence:
    """The evidence of a whole race; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "reference": Side(
            label=REFERENCE,
            latency_ms=latency(14.2),
            metric=0.8704,
            size_bytes=13_612_345,
            peak_memory_bytes=604_000_000,
        ),
        "chosen": Side(
            label=CHOSEN,
            latency_ms=latency(2.31),
            metric=0.8689,
            size_bytes=3_612_345,
            peak_memory_bytes=171_000_000,
        ),
        "speedup": Interval(6.147, 5.974, 6.277),
        "drop": 0.0015,
        "budget": BudgetRecord(metric="top1", max_drop=0.005, latency_ms=2.0, size_bytes=5_000_000),
        "unmet": ("latency: wanted at most 2.00 ms, the best found within the budget is 2.31 ms",),
        "candidates": candidates(),
        "ledger": (
            LedgerEntry(
                step="static_int8",
                speedup=Interval(2.05, 1.99, 2.11),
                metric_change=-0.0018,
                size_change_bytes=-10_000_000,
                note="against as-is on the same runtime",
            ),
            LedgerEntry(
                step="runtime openvino",
                speedup=Interval(1.04, 1.01, 1.07),
                metric_change=0.0,
                size_change_bytes=0,
                note="against onnxruntime",
            ),
            LedgerEntry(
                step="2 threads",
                speedup=Interval(1.515, 1.48, 1.56),
                metric_change=0.0003,
                size_change_bytes=0,
            ),
        ),
        "control": Interval(1.0007, 0.9961, 1.0048),
        "verdict": (
            "6.15x faster than pytorch eager [5.97, 6.28] for 0.15 points of top1, "
            "but the goal of 2.00 ms is not met."
        ),
        "notes": ("Rounds 31 to 34 were unstable: another process took 12 % of a core.",),
    }
    return Evidence(**(fields | changes))


def manifest(**changes: Any) -> Manifest:
    """The manifest of a bundle; ``changes`` replace fields of its evidence."""
    return Manifest(
        name="elpv-lite0",
        signature=Signature(
            (TensorSpec("image", "float32", (None, 3, 224, 224)),),
            (TensorSpec("logits", "float32", (None, 2)),),
        ),
        artifact=Artifact(file="model.onnx", sha256="9f2c" * 16, bytes=3_612_345, format="onnx"),
        plan=PlanRecord(
            steps=(
                AppliedStep("static_int8", {"activations": "u8", "calibrator": "entropy"}),
                AppliedStep("fold-input", {"mean": [0.485, 0.456, 0.406], "layout": "NCHW"}),
            ),
            runtime="openvino",
            execution={"device": "cpu", "threads": 2, "instances": 1, "batch": 1, "hint": None},
            serving={"max_batch": 8, "instances": 1},
        ),
        evidence=evidence(**changes),
        environment={
            "cpu": {
                "model": "Intel(R) Xeon(R) Platinum 8488C",
                "cores": 2,
                "flags": ["avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8"],
                "governor": None,
            },
            "cgroup": {"quota_cores": 2.0, "cpuset": "0-1"},
            "load": {"mean_1m": 0.31, "steal_percent": 0.0},
            "versions": {"python": "3.11.2", "onnxruntime": "1.31.1", "openvino": "2026.4.1"},
        },
    )
