"""Samples that are held out, and how far a pruned model's outputs are from the whole one's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hasten.compress import Context
from hasten.compress.pruning.held_out import HeldOut, divided
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from hasten.worker.session import WorkerSession
from onnx_models import model, value


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerSession]:
    with closing(WorkerSession(tmp_path_factory.mktemp("session"))) as opened:
        yield opened


def scaled(factor: float, offset: float = 0.0) -> Model:
    """x[n,4] times a factor as y, and the places of its largest values, which are no floats."""
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["m"]),
        helper.make_node("Add", ["m", "offset"], ["y"]),
        helper.make_node("ArgMax", ["x"], ["place"], axis=1),
    ]
    held = {"factor": factor, "offset": offset}
    weights = [
        numpy_helper.from_array(np.array(one, np.float32), name) for name, one in held.items()
    ]
    outputs = [value("y", ["n", 4]), value("place", ["n", 1], 7)]
    return model_from_proto(model(nodes, [value("x", ["n", 4])], outputs, weights), "scaled")


@given(st.integers(1, 400))
def test_held_out_samples_are_a_quarter_and_no_others(count: int) -> None:
    samples = Samples({"x": np.arange(count)[:, np.newaxis]})
    seen, unseen = divided(samples)
    held = set(unseen.arrays["x"].ravel().tolist())
    rest = set(seen.arrays["x"].ravel().tolist())
    assert held | rest == set(range(count))
    assert count == 1 or not held & rest
    assert len(held) == max(1, min(48, count // 4))


def test_the_error_is_a_share_of_the_variance(session: WorkerSession, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    context = Context(tmp_path, Samples({"x": x}))
    judge = HeldOut.of(scaled(2), context, session)
    assert judge.error(scaled(2).graph) == 0
    shift = 1 / (2 * float(x.std()))
    assert judge.error(scaled(2, 1.0).graph) == pytest.approx(shift**2, rel=1e-3)
    assert judge.error(scaled(float("nan")).graph) == float("inf")
