"""EfficientNet-Lite0 made small step by step: fine-tuned, pruned, distilled, trained for int8.

Run: ``python benchmarks/lite0_chain.py [SEED ...]``. Real images of solar cells, three seeds.
Channels go until half the latency on ONNX Runtime in fp32 is left, as measured, and what is left
learns from the network before. Then more go, those that cost most in int8 on LiteRT, where it is to
run; it learns again, and once more with quantization. All are timed in paired rounds, beside
PyTorch eager. Exits 1 unless pruning keeps to half the latency at 1.5 points or less, and the whole
chain is 20 times as fast as PyTorch eager at 2 points or less.

What is trained is kept in the cache folder (see ``benchmarks/trained.py``).
"""

from __future__ import annotations

import random
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from figures import Figure, report
from hasten.api.sources import cleaned
from hasten.compress import (
    Context,
    Distill,
    Finetune,
    FoldInput,
    PruneChannels,
    TrainQuantized,
    apply_step,
)
from hasten.data import Samples
from hasten.graph import Model, load, parse_input
from hasten.measure.clock import Deadline
from hasten.measure.environment import physical_cores
from hasten.runtimes import Execution
from hasten.train.schedule import Augmentation
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.heat import Heats
from hasten.tune.stopwatch import RuntimeStopwatch
from solar import solar
from trained import Stage, accuracy, device, outputs, trained

_SEEDS = (0, 1, 2)
_HALF, _PRUNED_DROP = 0.5, 1.5
#: What is left, for the chain, of the latency of half the network in int8 on LiteRT.
_LEAN = 0.8
_CHAIN_SPEEDUP, _CHAIN_DROP = 20.0, 2.0
#: How far above half the latency a measurement may be that was steered to half.
_TOLERANCE = 0.02
_CALIBRATION = 128
_ROUNDS, _BLOCKS = 8, 8
_AUGMENT: tuple[Augmentation, ...] = ("flip_horizontal", "flip_vertical", "shift")


class Chain(NamedTuple):
    """What became of the network with one seed, part by part."""

    whole: Stage
    half: Stage
    half_taught: Stage
    lean: Stage
    lean_taught: Stage
    int8: Stage


def main(seeds: list[int]) -> int:
    """Make the chain for each seed, and measure it."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = solar(scratch, calibration=None)
        original, _ = cleaned(data.model, data.held_out, scratch)
        for seed in seeds or _SEEDS:
            chain = make(original, data.calibration, seed, scratch)
            figures += _measured(seed, chain, data.held_out, scratch)
    return report(figures)


def make(original: Model, training: Samples, seed: int, scratch: Path) -> Chain:
    """Fine-tune, prune and distil twice, and quantize; what was made before is read."""
    some, _ = training.split(calibration=_CALIBRATION, seed=seed)
    context = Context(
        scratch,
        calibration=some,
        preprocessing=training.preprocessing,
        training=training,
        stopwatch=RuntimeStopwatch(scratch / "onnxruntime"),
    )
    settings: dict[str, Any] = {"seed": seed, "device": device()}
    settings |= {"augment": _AUGMENT, "held_out": 0.0}
    tuning = Finetune(epochs=12, learning_rate=3e-4, **settings)
    whole = trained(f"lite0-{seed}", original, [tuning], context)

    pruning = PruneChannels(latency_ratio=_HALF, importance="taylor")
    half = trained(f"lite0-half-{seed}", whole.model, [pruning], context)
    context = replace(context, teacher=whole.model)
    learning = Distill(epochs=20, learning_rate=3e-4, temperature=2.0, **settings)
    half_taught = trained(f"lite0-half-taught-{seed}", half.model, [learning], context)

    context = replace(
        context,
        teacher=apply_step(whole.model, FoldInput(), context),
        stopwatch=RuntimeStopwatch(scratch / "litert", "litert"),
    )
    pruning = PruneChannels(latency_ratio=_LEAN, importance="taylor", timed_as="int8")
    steps = [FoldInput(), pruning]
    lean = trained(f"lite0-lean-{seed}", half_taught.model, steps, context)
    learning = Distill(epochs=16, learning_rate=3e-4, temperature=2.0, **settings)
    lean_taught = trained(f"lite0-lean-taught-{seed}", lean.model, [learning], context)
    rounding = TrainQuantized(epochs=2, learning_rate=5e-5, temperature=2.0, **settings)
    int8 = trained(f"lite0-int8-{seed}", lean_taught.model, [rounding], context)
    return Chain(whole, half, half_taught, lean, lean_taught, int8)


def _measured(seed: int, chain: Chain, held_out: Samples, scratch: Path) -> list[Figure]:
    score = {}
    for name, stage in chain._asdict().items():
        runtime = "litert" if name == "int8" else "onnxruntime"
        score[name] = accuracy(outputs(stage.model, held_out, scratch, runtime), held_out)
        print(
            f"seed {seed}, {name.replace('_', ' '):<11} top-1 {score[name]:5.2f} %,"
            f" {len(stage.model.payload) / 1024:7,.0f} KB,"
            f" {stage.core_seconds:5.0f} core s on {stage.device}"
        )
    execution = Execution(threads=physical_cores())
    eager = _eager(execution, scratch)
    float_whole = _contestant(chain.whole.model, "onnxruntime", execution, scratch)
    float_half = _contestant(chain.half_taught.model, "onnxruntime", execution, scratch)
    int8 = _contestant(chain.int8.model, "litert", execution, scratch)
    staged = scratch / f"staged-{seed}"
    held_out.save(staged)
    order = random.Random(seed)  # noqa: S311 - an order of rounds, not a secret
    heats = Heats(eager, staged, scratch, "latency", order, Deadline.after(None))
    result = heats.heat([float_whole, float_half, int8], _ROUNDS, blocks=_BLOCKS)
    halved = result.speedup(float_half, over=float_whole)
    chained = result.speedup(int8)
    for one in (eager, float_whole, float_half, int8):
        print(f"  {one.label}: {one.measurement.latency('latency').p50:.2f} ms")
    pruned_drop, chain_drop = score["whole"] - score["half_taught"], score["whole"] - score["int8"]
    size_kb = len(chain.int8.model.payload) / 1024
    least = 1 / (_HALF + _TOLERANCE)
    return [
        Figure(
            f"seed {seed}: pruned over whole, ONNX Runtime fp32",
            f"{halved}",
            f">= {least:.2f}x",
            halved.median >= least,
        ),
        Figure(
            f"seed {seed}: points lost by pruning, after distillation",
            f"{pruned_drop:.2f}",
            f"<= {_PRUNED_DROP:g}",
            pruned_drop <= _PRUNED_DROP,
        ),
        Figure(
            f"seed {seed}: int8 on LiteRT over PyTorch eager, {size_kb:,.0f} KB",
            f"{chained}",
            f">= {_CHAIN_SPEEDUP:g}x",
            chained.median >= _CHAIN_SPEEDUP,
        ),
        Figure(
            f"seed {seed}: points lost by the whole chain",
            f"{chain_drop:.2f}",
            f"<= {_CHAIN_DROP:g}",
            chain_drop <= _CHAIN_DROP,
        ),
    ]


def _eager(execution: Execution, scratch: Path) -> Contestant:
    """The network as its user has it: PyTorch's own module, of the same layers."""
    inputs = [parse_input("image=float32[batch,3,224,224]")]
    model = load("hasten.demo.network:lite0", inputs=inputs, scratch=scratch)
    return _contestant(model, "pytorch", execution, scratch)


def _contestant(model: Model, runtime: str, execution: Execution, scratch: Path) -> Contestant:
    made = Builder(model, Context(scratch)).contestant(Candidate((), runtime, execution))
    if not made.racing:
        raise RuntimeError(made.reason)
    return made


if __name__ == "__main__":
    sys.exit(main([int(seed) for seed in sys.argv[1:]]))
