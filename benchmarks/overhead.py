"""Does the tool measure what a bare loop measures? One session, both ways, in the same run.

Run: python benchmarks/overhead.py. Exits 1 unless the medians agree within 5 %.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

from figures import MODELS, Figure, report
from hasten.data import Samples
from hasten.graph import read_onnx, write_onnx
from hasten.runtimes import Execution, get_runtime
from hasten.worker.process import Worker

_PAIRS = 12
_RUNS = 60
_ALLOWED = 0.05

#: The bare loop, in a process of its own and with nothing of Hasten in it.
_BARE = """
import sys, time, statistics, numpy as np, onnxruntime
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
feed = {session.get_inputs()[0].name: np.load(sys.argv[2])}
for line in sys.stdin:
    times = []
    for _ in range(int(line) + 5):
        begin = time.perf_counter_ns()
        session.run(None, feed)
        times.append(time.perf_counter_ns() - begin)
    print(statistics.median(times[5:]), flush=True)
"""


def main() -> int:
    """Measure in pairs, one turn each, and compare the medians."""
    figures = []
    for name, build in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            ratio = _ratio(build(), Path(folder))
        figures.append(
            Figure(
                f"{name}: tool's median / bare loop's median",
                f"{ratio:.3f}",
                f"within {_ALLOWED:.0%} of 1",
                abs(ratio - 1) <= _ALLOWED,
            )
        )
    return report(figures)


def _ratio(proto: onnx.ModelProto, scratch: Path) -> float:
    import numpy as np

    from hasten.graph import model_from_proto

    model = model_from_proto(proto, "overhead")
    path = scratch / "model.onnx"
    write_onnx(model, path)
    model = read_onnx(path)
    samples = Samples.synthetic(model.signature, 1, 0)
    samples.save(scratch / "samples")
    feed = samples.feed(model.signature, [0])
    np.save(scratch / "feed.npy", next(iter(feed.values())))
    lowered = get_runtime("onnxruntime").lower(model, scratch)
    command = [sys.executable, "-c", _BARE, str(path), str(scratch / "feed.npy")]
    with (
        Worker(scratch) as worker,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as bare,
    ):
        assert bare.stdin is not None
        assert bare.stdout is not None
        worker.open("onnxruntime", lowered, Execution(), scratch / "samples", 60)
        ratios = []
        for _ in range(_PAIRS):
            ours = statistics.median(worker.measure(_RUNS, 5, 60).runs_ns)
            bare.stdin.write(f"{_RUNS}\n")
            bare.stdin.flush()
            ratios.append(ours / float(bare.stdout.readline()))
        bare.stdin.close()
    return statistics.median(ratios)


if __name__ == "__main__":
    sys.exit(main())
