"""LiteRT's GPU against its processor path: outputs side by side, and the time with reading them.

Run: python benchmarks/litert_gpu.py. Takes the GPU that Vulkan finds; on a machine without one,
give it SwiftShader, a processor that plays one, by VK_DRIVER_FILES (Debian's chromium-common brings
the driver). Its times then say nothing of GPUs. Outputs must be the same within 1e-2, relative to
the largest.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from figures import Figure, convnet, report
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from hasten.runtimes import Arrays, Execution, Session, get_runtime
from solar import solar

_APART = 1e-2
_IMAGES, _RUNS = 4, 5


def main() -> int:
    """Run each network on both and compare."""
    runtime = get_runtime("litert")
    device = runtime.probe().device("gpu")
    if not device.usable:
        return report([Figure("a GPU", device.reason, "can be used", met=False)])
    print(f"{device.description}{', played by a processor' if device.software else ''}")
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        given = solar(scratch, calibration=1, held_out=_IMAGES)
        small = model_from_proto(convnet(), "convnet")
        for model, samples in (
            (given.model, given.held_out),
            (small, Samples.synthetic(small.signature, _IMAGES, 0)),
        ):
            figures.append(_figure(model, samples, scratch))
    return report(figures)


def _figure(model: Model, samples: Samples, scratch: Path) -> Figure:
    runtime = get_runtime("litert")
    lowered = runtime.lower(model, scratch)
    feeds = [feed for feed, _ in samples.batches(model.signature, 1)]
    found, times = {}, {}
    for device in ("cpu", "gpu"):
        session = runtime.open(lowered, Execution(device=device))
        found[device] = [session.run(feed) for feed in feeds]
        times[device] = _seconds(session, feeds[0])
        session.close()
    apart = max(
        float(np.abs(one[name] - other[name]).max() / np.abs(one[name]).max())
        for one, other in zip(found["cpu"], found["gpu"], strict=True)
        for name in one
    )
    ratio = times["gpu"] / times["cpu"]
    print(f"{model.name}: cpu {times['cpu'] * 1e3:.1f} ms, gpu {times['gpu'] * 1e3:.1f} ms")
    print(f"{model.name}: the gpu takes {ratio:.2f} times as long, outputs read")
    return Figure(f"{model.name}: outputs apart", f"{apart:.2e}", f"<= {_APART}", apart <= _APART)


def _seconds(session: Session, feed: Arrays) -> float:
    """Median of a run that ends when its outputs are here."""
    taken = []
    for _ in range(_RUNS):
        begin = time.perf_counter()
        session.run(feed)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())
