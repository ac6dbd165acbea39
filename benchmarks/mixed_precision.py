"""Mixed precision against reverting by accuracy alone, on a small MobileNetV3, three seeds.

Run: ``python benchmarks/mixed_precision.py | tee benchmarks/mixed_precision.txt``.

The network has squeeze-and-excite and hard-swish, and is trained on the demo's images. For each
seed it is quantized within half a point of top-1: by our search, and by putting blocks back to
float in the order of the accuracy that each regains, as accuracy control in NNCF does. Both start
from one int8 graph, and use the same blocks and the same sensitivities. Then float, all int8 and
both mixtures are timed again in paired rounds, each block of rounds in fresh processes; and beside
them what ONNX Runtime's own quantizer makes of the model with the same nodes kept in float.

A last line says how long the sensitivity of Lite0's blocks takes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from figures import Figure, report
from hasten.compress import Context, applied
from hasten.compress.step import quiet_quantizer
from hasten.data import METRICS, Samples
from hasten.graph import blocks, model_from_proto
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.measure.statistics import Interval
from hasten.progress import Quiet
from hasten.runtimes import Execution
from hasten.tune.budget import Budget, is_within
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.judge import Judge
from hasten.tune.mixed_precision import MixedPrecision
from hasten.tune.mixtures import ALL_INT8, Kept, Mixtures
from hasten.tune.quantize import int8_steps, quantize_within
from hasten.tune.reversion import by_accuracy, revert
from hasten.tune.sensitivity import scan
from mobile_net import Trained, trained
from solar import solar

SEEDS = (0, 1, 2)
RUNTIMES = ("onnxruntime", "litert")
MAX_DROP = 0.005
ROUNDS, BLOCKS = 4, 6
SCAN_S = 300.0
TOP1 = METRICS["top1"]
NEVER = Deadline.after(None)
OURS, BY_ACCURACY, INT8, FLOAT, SAME = (
    "ours",
    "by accuracy alone",
    "all int8",
    "all float",
    "same blocks by ONNX Runtime",
)


def main() -> int:
    """Print every seed's table; hold the claims."""
    figures = []
    for seed in SEEDS:
        for runtime in RUNTIMES:
            with tempfile.TemporaryDirectory() as folder:
                scratch = Path(folder)
                subject = trained(seed, scratch / "read")
                figures += compared(subject, runtime, f"seed {seed}, {runtime}", scratch)
    figures.append(lite0_scan())
    return report(figures)


def compared(subject: Trained, runtime: str, name: str, scratch: Path) -> list[Figure]:
    """Quantize by both ways, time all side by side and print them."""
    begin = time.monotonic()
    found = quantize_within(
        subject.model,
        calibration=subject.calibration,
        validation=subject.held_out,
        metric=TOP1,
        max_drop=MAX_DROP,
        runtimes=[runtime],
        scratch=scratch,
    )
    (search,) = found.searches
    took_s = time.monotonic() - begin
    drop = search.mixtures.drop
    by_accuracy_alone = revert(ALL_INT8, by_accuracy(search.sensitivities), drop, MAX_DROP, NEVER)[
        -1
    ]
    ways = {
        FLOAT: search.mixtures.all_float,
        INT8: ALL_INT8,
        BY_ACCURACY: by_accuracy_alone,
        OURS: search.chosen,
    }
    reference = search.mixtures.judge.reference_score
    assert reference is not None
    print(
        f"{name}: float top-1 {reference.value:.4f}, {len(search.mixtures.blocks)} blocks, search"
        f" {took_s:.0f} s, {applied(search.mixtures.base.steps[-1])}"
    )
    for note in found.notes:
        print(f"  {note}")
    return _figures(name, search, ways, _timed(search, ways, subject, scratch))


def _timed(
    search: MixedPrecision, ways: Mapping[str, Kept], subject: Trained, scratch: Path
) -> dict[str, Interval]:
    """Print each way's latency; return how many times as fast as each other way ours is."""
    mixtures = search.mixtures
    lanes = {name: mixtures.copy(kept) for name, kept in ways.items()}
    if mixtures.base.runtime == "onnxruntime" and search.chosen != mixtures.all_float:
        lanes[SAME] = _by_onnxruntime(mixtures, search.chosen, subject, scratch)
    result = mixtures.heats.heat(list(lanes.values()), ROUNDS, blocks=BLOCKS)
    for name, lane in lanes.items():
        kept = ways.get(name, search.chosen)
        ms = result.measured[lane].latency("latency").p50
        lost = f"{100 * mixtures.drop(kept):5.2f}" if name in ways else "    ?"
        print(
            f"  {name:<28} {ms:6.3f} ms  over all int8 {result.speedup(lane)}  drop {lost} points"
            f"  {len(kept)} float blocks"
        )
    return {
        name: result.speedup(lanes[OURS], over=lane) for name, lane in lanes.items() if name != OURS
    }


def _figures(
    name: str, search: MixedPrecision, ways: Mapping[str, Kept], ours: Mapping[str, Interval]
) -> list[Figure]:
    print(f"  float blocks, ours: {', '.join(search.mixtures.in_order(ways[OURS])) or 'none'}")
    alone = ", ".join(search.mixtures.in_order(ways[BY_ACCURACY])) or "none"
    print(f"  float blocks, by accuracy alone: {alone}\n", flush=True)
    drop = search.drop
    figures = [
        Figure(
            f"{name}: top-1 lost, points",
            f"{100 * drop:.2f}",
            f"<= {100 * MAX_DROP:g}",
            is_within(drop, MAX_DROP),
        )
    ]
    for other in (BY_ACCURACY, SAME):
        if other in ours:
            # Not slower: a difference that the rounds do not show is none.
            met = ours[other].high >= 1.0
            figures.append(
                Figure(f"{name}: ours over {other}", str(ours[other]), "not slower", met)
            )
    return figures


def _by_onnxruntime(mixtures: Mixtures, kept: Kept, subject: Trained, scratch: Path) -> Contestant:
    """Quantize with onnxruntime.quantization, min-max ranges, with the same nodes in float.

    From the float input: that quantizer folds no normalisation.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, quantize_static

    class Feeds:
        """Calibration samples, one at a time."""

        def __init__(self) -> None:
            self.feeds = iter(list(subject.calibration.batches(subject.model.signature, 1)))

        def get_next(self) -> dict[str, object] | None:
            """Return the next, or None."""
            return dict(next(self.feeds, ({}, 0))[0]) or None

    source = mixtures.builder.apply(mixtures.base.steps[:-1]).graph
    nodes = {node for block in blocks(source) if block.name in kept for node in block.nodes}
    path, written = scratch / "float.onnx", scratch / "same.onnx"
    onnx.save(subject.model.graph, path)
    with quiet_quantizer():
        quantize_static(
            path,
            written,
            Feeds(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            nodes_to_exclude=sorted(nodes),
        )
    model = model_from_proto(onnx.load(written), "same")
    return Builder(model, mixtures.builder.context).contestant(
        msgspec.structs.replace(mixtures.base, steps=())
    )


def lite0_scan() -> Figure:
    """Scan the demo's network, accuracy and time of every block."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        subject = solar(scratch, calibration=128, held_out=300)
        builder = Builder(
            subject.model, Context(scratch, subject.calibration, subject.held_out.preprocessing)
        )
        judge = _judge(builder, subject.held_out, scratch)
        cores = Execution(physical_cores())
        steps = int8_steps(builder, "onnxruntime", cores.threads, None, Quiet())
        mixtures = Mixtures(builder, Candidate(steps, "onnxruntime", cores), judge, NEVER)
        begin = time.monotonic()
        found = scan(mixtures, NEVER, Quiet())
        took_s = time.monotonic() - begin
    known = all(one.sqnr_db is not None and one.speedup is not None for one in found)
    return Figure(
        f"sensitivity of Lite0, {len(found)} blocks, seconds",
        f"{took_s:.0f}",
        f"<= {SCAN_S:.0f}",
        took_s <= SCAN_S and known,
    )


def _judge(builder: Builder, validation: Samples, scratch: Path) -> Judge:
    staged = scratch / "validation"
    validation.save(staged)
    judge = Judge(TOP1, Budget(max_drop=MAX_DROP), validation, staged, scratch, NEVER)
    judge.judge_reference(builder.contestant(Candidate((), "onnxruntime", Execution())))
    return judge


if __name__ == "__main__":
    sys.exit(main())
