"""Trained is deployed: after training for int8, the module and what is written of it are one.

``QuantizedTraining.parting`` decides: it names the first tensor that ties do not explain. Beside it
stands how far the outputs are apart on held-out samples, in steps of the output. A tie that is
rounded the other way somewhere inside becomes a few steps there, so there is a floor: the deployed
model against itself, with the same arithmetic in another order. That is ONNX Runtime without its
optimisations, and LiteRT's own kernels without XNNPACK. Where a runtime cannot give the tensors
inside, the outputs and their floor decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import hasten
from hasten.errors import RefusedError, RuntimeFailureError
from hasten.runtimes import NO_DELEGATE
from zoo.answers import answers, module_answers, unoptimised_answers
from zoo.architecture import Arrays
from zoo.distance import Steps, steps_apart, worst_sqnr_db
from zoo.row import Finding
from zoo.subject import SEED, Subject
from zoo.training import shake, train_some

if TYPE_CHECKING:
    from hasten import Model
    from hasten.compress.train_quantized import QuantizedTraining

__all__ = ["measure"]

_STEPS, _RATE, _BATCH = 6, 1e-4, 8
#: Steps that values may differ by, root mean square: as many times the floor's, and more.
_TIMES, _MORE = 2.0, 0.2
#: Samples on which the tensors inside are compared.
_FEW = 8


class _Deployed(NamedTuple):
    """What was trained, and what was written of it."""

    subject: Subject
    training: QuantizedTraining
    model: Model
    said: Arrays


def measure(subject: Subject) -> Iterator[Finding]:
    """Train for int8, write, and compare on ONNX Runtime, then on LiteRT where it lowers."""
    training = hasten.qat(subject.load(), subject.calibration_samples, scratch=subject.scratch)
    module = training.module
    batch = 1 if subject.fixed else _BATCH
    moved = train_some(module, subject.training, steps=_STEPS, rate=_RATE, batch=batch, seed=SEED)
    shake(module, SEED)
    model = training.finish()
    one = _Deployed(subject, training, model, module_answers(module, subject.held_out))
    home = answers(model, subject.held_out, "onnxruntime", subject.scratch)
    floor = steps_apart(unoptimised_answers(model, subject.held_out), home)
    row = _compared(one, "onnxruntime", home, floor)
    losses = {"loss before": moved.before, "loss after": moved.after}
    yield row._replace(figures=losses | row.figures)
    yield from _on_litert(one)


def _on_litert(one: _Deployed) -> Iterator[Finding]:
    what, where = "deployed on litert", (one.subject.held_out, "litert", one.subject.scratch)
    try:
        home = answers(one.model, *where)
    except RefusedError as refused:
        yield Finding(what, "refused", reason=f"does not lower: {refused}")
        return
    except RuntimeFailureError as failure:
        yield Finding(what, "missed", reason=str(failure))
        return
    try:
        floor = steps_apart(answers(one.model, *where, delegate=NO_DELEGATE), home)
    except RuntimeFailureError:
        floor = Steps(0.0, 0.0, 0.0)  # only XNNPACK has a kernel: there is nothing to compare with
    yield _compared(one, "litert", home, floor)


def _compared(one: _Deployed, runtime: str, home: Arrays, floor: Steps) -> Finding:
    """Tell by the tensors inside, and by the outputs only where a runtime cannot give those."""
    apart = steps_apart(one.said, home)
    few = one.subject.held_out_samples.select(range(_FEW))
    found = one.training.parting(one.model, few, runtime)
    met = found.agrees
    if not found.compared:
        met = apart.root_mean_square <= _TIMES * floor.root_mean_square + _MORE
    figures = {
        "share": apart.share,
        "steps": apart.root_mean_square,
        "most": apart.most,
        "floor share": floor.share,
        "floor steps": floor.root_mean_square,
        "floor most": floor.most,
        "sqnr": worst_sqnr_db(one.said, home),
        "tensors compared": found.compared,
    }
    reason = f"{found}; all parts by {_told(apart)}; the runtime from itself by {_told(floor)}"
    return Finding(
        f"deployed on {runtime}", "met" if met else "missed", figures, "" if met else reason
    )


def _told(apart: Steps) -> str:
    return (
        f"{apart.root_mean_square:.2g} steps, at most {apart.most:.3g}, in {apart.share:.0%} of"
        " values"
    )
