"""A detector in int8 keeps its mean average precision; quantized whole it does not, and is refused.

Run: ``python benchmarks/detector.py | tee benchmarks/detector.txt`` (about 15 minutes).

The detector is trained here on circles, squares and triangles, and has one output as YOLO has it:
boxes in pixels and scores from 0 to 1, joined by one Concat. ``hasten optimize`` is given images
and a COCO file of their boxes. The control is the same network, all of it in static int8, where
the Concat has one scale for pixels and scores: it is judged with the labels, and without any.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import hasten
from figures import Figure, report
from hasten.bundle.manifest import CandidateRecord
from hasten.compress import Context, FoldInput, StaticInt8
from hasten.compress.quantization.rounding import Weights
from hasten.data import Metric, Samples, load_samples, resolve_metric
from hasten.graph import Model
from hasten.measure.clock import Deadline
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.judge import Judge
from shapes import SHAPES, draw, trained, write

_TRAINING, _HELD_OUT, _EPOCHS = 1600, 320, 4
_TRAINING_CORE_S = 600.0
_MAX_DROP = 0.01
_SPEEDUP = 2.0
_RUINED = 0.20
_SEED = 0


def main() -> int:
    """Train, optimize with labels, and bring the control before two judges."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        detector = trained(_TRAINING, epochs=_EPOCHS, seed=_SEED, scratch=folder)
        print(
            f"trained on {_TRAINING} pictures of {', '.join(SHAPES)}: {detector.seconds:.0f} s,"
            f" {detector.core_seconds:.0f} s of processor time",
            flush=True,
        )
        labels = write(draw(_HELD_OUT, _SEED + 1), folder / "data")
        figures = [
            Figure(
                "training, seconds of processor time",
                f"{detector.core_seconds:.0f}",
                f"<= {_TRAINING_CORE_S:.0f}, two cores for 5 min",
                detector.core_seconds <= _TRAINING_CORE_S,
            ),
            *control(detector.model, folder, f"labels={labels}"),
            *optimized(detector.model, folder, f"labels={labels}"),
        ]
    return report(figures)


def optimized(model: Model, folder: Path, preprocessing: str) -> list[Figure]:
    """Race for the fastest version within a point of mean average precision."""
    manifest = hasten.optimize(
        model,
        hasten.Data(folder / "data" / "images", preprocessing=preprocessing),
        out=folder / "detector.hasten",
        metric="map",
        budget=Budget(_MAX_DROP),
        settings=hasten.Settings(runtimes=("onnxruntime", "litert"), threads=1, time_s=420.0),
    )
    evidence = manifest.evidence
    for note in evidence.notes:
        print(f"note: {note}")
    print(evidence.verdict, flush=True)
    float_map = evidence.reference.metric
    assert float_map is not None
    best = _fastest_int8(evidence.candidates, float_map)
    if best is None or best.metric is None or best.speedup is None:
        return [Figure("int8 within a point of mAP", "none", "one", met=False)]
    print(f"fastest int8: {best.label}, {best.latency_ms.p50 if best.latency_ms else 0:.3f} ms")
    return [
        Figure(
            "mAP float, int8",
            f"{100 * float_map:.2f}, {100 * best.metric:.2f}",
            "apart by <= 1 point",
            float_map - best.metric <= _MAX_DROP + 1e-9,
        ),
        Figure(
            "int8 over float, one thread",
            str(best.speedup),
            f">= {_SPEEDUP:g}x in the median",
            best.speedup.median >= _SPEEDUP,
        ),
    ]


def _fastest_int8(
    candidates: tuple[CandidateRecord, ...], float_map: float
) -> CandidateRecord | None:
    """Return the fastest that computes in int8 and keeps the metric."""
    kept = [
        one
        for one in candidates
        if any(step.step == "static_int8" for step in one.steps)
        and one.metric is not None
        and one.speedup is not None
        and float_map - one.metric <= _MAX_DROP
    ]
    return max(kept, key=lambda one: one.speedup.median if one.speedup else 0.0, default=None)


def control(model: Model, folder: Path, preprocessing: str) -> list[Figure]:
    """Judge all of it in int8, with labels and without."""
    signature = model.signature
    images = folder / "data" / "images"
    every = load_samples(images, signature, preprocessing=preprocessing, scratch=folder / "control")
    calibration, validation = every.split(calibration=_HELD_OUT // 4, seed=_SEED)
    weights: Weights = "w7" if get_runtime("onnxruntime").probe().int8_saturates else "w8"
    steps = (FoldInput(), StaticInt8("u8", weights, "minmax"))
    figures = []
    for metric in (resolve_metric("map", validation), resolve_metric("fidelity", validation)):
        scratch = folder / f"judging-{metric.name}"
        scratch.mkdir()
        builder = Builder(model, Context(scratch, calibration, validation.preprocessing))
        judge = _judge(metric, builder, validation, scratch)
        whole = builder.contestant(Candidate(steps, "onnxruntime", Execution(1)))
        passed = judge.judge(whole)
        figures.append(_figure(judge, whole, passed=passed))
        print(f"all int8, judged by {metric.name}: {whole.reason}", flush=True)
    return figures


def _figure(judge: Judge, whole: Contestant, *, passed: bool) -> Figure:
    if judge.metric.name == "fidelity":
        refused = not passed and whole.status == "over_budget"
        said = "refused" if refused else str(whole.status)
        return Figure("all int8 without labels", said, "refused", refused)
    drop = judge.drop_of(whole)
    assert drop is not None
    return Figure(
        "all int8: mAP lost, points",
        f"{100 * drop:.1f}",
        f">= {100 * _RUINED:g}",
        drop >= _RUINED,
    )


def _judge(metric: Metric, builder: Builder, validation: Samples, scratch: Path) -> Judge:
    staged = scratch / "validation"
    validation.save(staged)
    never = Deadline.after(None)
    judge = Judge(metric, Budget(_MAX_DROP), validation, staged, scratch, never)
    judge.judge_reference(builder.contestant(Candidate((), "onnxruntime", Execution(1))))
    return judge


if __name__ == "__main__":
    sys.exit(main())
