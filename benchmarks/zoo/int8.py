"""Int8: what varies over samples still does, with as much in float as the search has to keep.

Where all int8 is below the goal, each block is put into int8 alone, which tells the blocks that
ruin it; then the budgeted search may keep what it wants.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from numpy.typing import NDArray

import hasten
from hasten.compress import Context, StaticInt8, apply_step
from hasten.graph import blocks
from zoo.answers import answers
from zoo.architecture import Arrays
from zoo.distance import LIMIT_DB, centred_sqnr_db, worst_sqnr_db
from zoo.row import Finding
from zoo.subject import Subject

if TYPE_CHECKING:
    from hasten import Model
    from hasten.graph import Block

__all__ = ["held_out_sqnr_db", "measure"]

_GOAL_DB = 15.0
_SEARCH_S = 40.0
_REVERSION_S = 40.0
#: So many of the blocks that ruin most are named.
_NAMED = 3
#: Nothing is timed, kept or asked.
_ALONE: dict[str, Any] = {"rounds": 0, "cache": False, "force": True}
#: What ``held_out_sqnr_db`` compares with, in the order of the model's outputs.
_reference: list[NDArray[Any]] = []


def held_out_sqnr_db(outputs: Mapping[str, NDArray[Any]], labels: object) -> float:
    """Return the centred SQNR of the worst output: the metric that the search goes by."""
    del labels
    floats = [value for value in outputs.values() if value.dtype.kind == "f"]
    return min(
        centred_sqnr_db(value.reshape(want.shape), want)
        for value, want in zip(floats, _reference, strict=True)
    )


def measure(subject: Subject) -> Iterator[Finding]:
    """Quantize whole; where that is not enough, name the block and search within the budget."""
    model = subject.load()
    wanted = answers(model, subject.held_out, "onnxruntime", subject.scratch)
    _reference[:] = wanted.values()
    whole = _quantized(subject, model, wanted, hasten.Way(metric="fidelity", **_ALONE))
    figures = {"all int8": whole.sqnr_db}
    if whole.sqnr_db >= _GOAL_DB:
        yield Finding("int8", "met", figures)
        return
    reverted = _reverted(subject, model, wanted)
    figures |= reverted.figures
    reason = f"all int8 {whole.sqnr_db:.1f} dB; {reverted.said}"
    yield Finding("all in int8", "missed", figures, reason)
    budget = hasten.Way(metric="zoo.int8:held_out_sqnr_db", max_drop=LIMIT_DB - _GOAL_DB, **_ALONE)
    found = _quantized(subject, model, wanted, budget)
    figures |= {"search": found.sqnr_db, "search kept": found.kept}
    # Small nets are often fastest in float, and so is then what the search returns; and it stops
    # when its time is up, which on a busy machine is early.
    met = reverted.holds or (not found.all_float and found.sqnr_db >= _GOAL_DB)
    kept = "all" if found.all_float else f"{found.kept}"
    reason += f"; the search keeps {kept} blocks in float: {found.sqnr_db:.1f} dB"
    yield Finding("int8", "met" if met else "missed", figures, reason)


class _Quantized(NamedTuple):
    """What the verb made: how good it is, and how many blocks it kept in float."""

    sqnr_db: float
    kept: int
    all_float: bool


def _quantized(subject: Subject, model: Model, wanted: Arrays, way: hasten.Way) -> _Quantized:
    """Quantize by the public verb, and run the file that it wrote."""
    out = subject.scratch / "int8.onnx"
    data = hasten.Data(subject.held_out, calibration=subject.calibration)
    made = hasten.quantize(model, data, out=out, way=way, search_s=_SEARCH_S)
    found = answers(hasten.load(out), subject.held_out, "onnxruntime", subject.scratch)
    int8 = [step for step in made.steps if step.step == "static_int8"]
    kept = len(int8[0].config.get("float_blocks", ())) if int8 else 0
    return _Quantized(worst_sqnr_db(found, wanted), kept, not int8)


class _Reverted(NamedTuple):
    """What comes back with blocks in float: ``holds`` where half of them are enough."""

    figures: Mapping[str, float]
    said: str
    holds: bool


def _reverted(subject: Subject, model: Model, wanted: Arrays) -> _Reverted:
    """Put each block into int8 alone; then of all int8 back to float, what ruins most first.

    Alone, because where two blocks ruin an output, either of them back in float shows little.
    """
    context = Context(subject.scratch, subject.calibration_samples)
    until = time.monotonic() + _REVERSION_S

    def sqnr_db(kept: Iterable[Block]) -> float:
        names = tuple(block.name for block in kept)
        mixed = apply_step(model, StaticInt8(float_blocks=names), context)
        given = answers(mixed, subject.held_out, "onnxruntime", subject.scratch)
        return worst_sqnr_db(given, wanted)

    every = blocks(model.graph)
    alone: dict[Block, float] = {}
    for block in every:
        if time.monotonic() < until and len(every) > 1:
            alone[block] = sqnr_db(other for other in every if other != block)
    ranked = sorted(alone, key=lambda block: alone[block])
    kept, reached = 0, -LIMIT_DB
    while reached < _GOAL_DB and kept < min(len(ranked), len(every) // 2):
        kept += 1
        reached = sqnr_db(ranked[:kept])
    said = f"{reached:.1f} with {kept} of {len(every)} blocks in float, alone in int8 " + ", ".join(
        f"{block.label} {alone[block]:.1f}" for block in ranked[:_NAMED]
    )
    if len(alone) < len(every):
        said += f" ({len(every) - len(alone)} were not tried: the time was up)"
    figures = {"blocks": len(every), "tried": len(alone), "kept": kept, "reverted": reached}
    return _Reverted(figures, said, reached >= _GOAL_DB)
