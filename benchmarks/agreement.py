"""Whether ONNX Runtime and OpenVINO predict the same from one QDQ file, and keep the accuracy.

Run: python benchmarks/agreement.py. The demo's network, static int8 as the race would write it on
this processor (with weights of 7 bits where those of 8 saturate), on the held-out quarter. Where
they do not agree on 99.5 % of the samples, the samples on which they part must be named, as the
report does; and their accuracy must be the same within half a point.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Literal

from figures import Figure, report
from hasten.compress import Context, FoldInput, StaticInt8
from hasten.compress.quantization.rounding import Weights
from hasten.compress.static_int8 import Calibrator
from hasten.data import METRICS
from hasten.measure.clock import Deadline
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.judge import AGREE_SHARE, Judge
from solar import solar

_ALLOWED_DIFFERENCE = 0.005
_CALIBRATORS: tuple[Calibrator, ...] = ("minmax", "percentile", "mse", "entropy")
_BIASES: tuple[Literal["plain", "corrected"], ...] = ("plain", "corrected")


def main() -> int:
    """Judge each int8 graph in both runtimes."""
    figures = []
    weights: Weights = "w7" if get_runtime("onnxruntime").probe().int8_saturates else "w8"
    print(f"weights: {weights}")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        given = solar(scratch)
        context = Context(scratch, given.calibration, given.held_out.preprocessing)
        builder = Builder(given.model, context)
        staged = scratch / "validation"
        given.held_out.save(staged)
        never = Deadline.after(None)
        judge = Judge(METRICS["top1"], Budget(1.0), given.held_out, staged, scratch, never)
        plain = builder.contestant(Candidate((), "onnxruntime", Execution(2)))
        judge.judge_reference(plain)
        for name in _CALIBRATORS:
            for bias in _BIASES:
                steps = (FoldInput(), StaticInt8("u8", weights, name, bias))
                ort = builder.contestant(Candidate(steps, "onnxruntime", Execution(2)))
                ov = builder.contestant(Candidate(steps, "openvino", Execution(2, hint="f32")))
                judge.judge(ort)
                judge.judge(ov)
                figures += _figures(f"{name} {bias}", judge, ort, ov)
    return report(figures)


def _figures(name: str, judge: Judge, ort: Contestant, ov: Contestant) -> list[Figure]:
    share = judge.agreement(ort, ov)
    apart = judge.partings(ort, [ov])
    print(f"{name}: {apart[0] if apart else 'they agree'}", flush=True)
    ours, theirs = judge.drop_of(ort), judge.drop_of(ov)
    assert share is not None
    assert ours is not None
    assert theirs is not None
    return [
        Figure(
            f"{name}: same predictions",
            f"{share:.1%}{' (named)' if apart else ''}",
            f">= {AGREE_SHARE:.1%}, or named",
            share >= AGREE_SHARE or bool(apart),
        ),
        Figure(
            f"{name}: top-1 lost in onnxruntime, openvino",
            f"{ours:+.4f}, {theirs:+.4f}",
            f"apart by <= {_ALLOWED_DIFFERENCE}",
            abs(ours - theirs) <= _ALLOWED_DIFFERENCE,
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
