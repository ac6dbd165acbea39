"""Does compare cry wolf, and does it hear the wolf? Twenty runs of each.

Run: python benchmarks/compare.py. The same model twice must show no measurable difference in 19 of
20 runs; a planted slowdown of 5 % (null runtime) must be found in 19 of 20.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from figures import Figure, convnet, null_model, report
from hasten.graph import model_from_proto, write_onnx
from hasten.tune.compare import compare
from hasten.tune.subject import Wanted, open_subject

_RUNS = 20
_NEEDED = 19
_ROUNDS = 30
_COST_NS = 2_000_000
_PLANTED = 1.05


def main() -> int:
    """Run both and print how often the verdict was right."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        write_onnx(model_from_proto(convnet(), "x"), scratch / "x.onnx")
        write_onnx(model_from_proto(null_model(_COST_NS), "a"), scratch / "a.onnx")
        slower = null_model(int(_COST_NS * _PLANTED))
        write_onnx(model_from_proto(slower, "b"), scratch / "b.onnx")
        same = _verdicts(scratch, "x.onnx", "x.onnx", "onnxruntime")
        planted = _verdicts(scratch, "a.onnx", "b.onnx", "null")
    return report(
        [
            Figure(
                "compare X X (onnxruntime): no measurable difference",
                f"{same.count('no measurable difference')} of {_RUNS}",
                f">= {_NEEDED} of {_RUNS}",
                same.count("no measurable difference") >= _NEEDED,
            ),
            Figure(
                "planted 5 % slowdown (null): found to be slower",
                f"{planted.count('slower')} of {_RUNS}",
                f">= {_NEEDED} of {_RUNS}",
                planted.count("slower") >= _NEEDED,
            ),
        ]
    )


def _verdicts(scratch: Path, a: str, b: str, runtime: str) -> list[str]:
    found = []
    for run in range(_RUNS):
        wanted = Wanted(runtime=runtime, threads=1, seed=run)
        with tempfile.TemporaryDirectory(dir=scratch) as name:
            folder = Path(name)
            result = compare(
                open_subject(str(scratch / a), wanted, folder / "a"),
                open_subject(str(scratch / b), wanted, folder / "b"),
                rounds=_ROUNDS,
                seed=run,
                scratch=folder,
            )
        print(
            f"{a} {b} run {run:2}: {result.speedup.median:.3f} [{result.speedup.low:.3f},"
            f" {result.speedup.high:.3f}] control [{result.control.low:.3f},"
            f" {result.control.high:.3f}] {result.verdict}",
            flush=True,
        )
        found.append(str(result.verdict))
    return found


if __name__ == "__main__":
    sys.exit(main())
