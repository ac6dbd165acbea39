"""What the benchmark of architectures measures by, and how it tells what happened to a process."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from zoo.answers import one_by_one
from zoo.distance import (
    LIMIT_DB,
    centred_sqnr_db,
    relative_error,
    squared_error,
    steps_apart,
    worst_sqnr_db,
)
from zoo.row import Kind, Row
from zoo.summary import causes, figures, told
from zoo.training import shake, train_some
from zoo.visit import visit
from zoo.weights import draw_idle, re_estimate_batch_norms


@given(seed=st.integers(0, 1000), noise_db=st.floats(-20, 40), offset=st.floats(-100, 100))
def test_centred_sqnr_is_of_what_varies_alone(seed: int, noise_db: float, offset: float) -> None:
    random = np.random.default_rng(seed)
    reference = random.normal(size=(16, 3, 4))
    noise = random.normal(size=reference.shape)
    noise -= noise.mean(0)
    varying = reference - reference.mean(0)
    noise *= np.linalg.norm(varying) / np.linalg.norm(noise) * 10 ** (-noise_db / 20)
    moved = reference + noise + offset * random.normal(size=(3, 4))
    assert centred_sqnr_db(moved, reference) == pytest.approx(noise_db, abs=1e-3)


def test_an_output_that_became_constant_has_lost_all_that_varied() -> None:
    reference = np.array([[1.0], [-1.0]])
    assert centred_sqnr_db(np.full((2, 1), 7.0), reference) == pytest.approx(0.0)
    assert centred_sqnr_db(reference, np.full((2, 1), 7.0)) == -LIMIT_DB
    assert centred_sqnr_db(np.full((2, 1), 3.0), np.full((2, 1), 7.0)) == LIMIT_DB
    assert centred_sqnr_db(np.full((2, 1), np.nan), reference) == -LIMIT_DB


def test_the_worst_output_decides() -> None:
    reference = {"a": np.array([[1.0], [-1.0]]), "b": np.array([[1.0], [-1.0]])}
    outputs = {"a": reference["a"], "b": reference["b"] * 1.1}
    assert worst_sqnr_db(outputs, reference) == pytest.approx(20.0)
    assert relative_error(outputs, reference) == pytest.approx(0.1)
    assert squared_error(outputs, reference) == pytest.approx(0.005)


@given(levels=st.lists(st.integers(0, 255), min_size=3), moved=st.integers(1, 9))
def test_steps_are_those_of_the_reference(levels: list[int], moved: int) -> None:
    reference = np.array([0.0, 255.0, *levels]) * 0.37
    output = reference.copy()
    output[-1] += moved * 0.37
    found = steps_apart({"y": output}, {"y": reference})
    assert found.most == pytest.approx(moved)
    assert found.share == pytest.approx(1 / len(reference))
    assert found.root_mean_square == pytest.approx(moved / math.sqrt(len(reference)))


def test_a_constant_output_is_any_number_of_steps_from_another() -> None:
    assert steps_apart({"y": np.ones(3)}, {"y": np.ones(3)}).most == 0
    assert steps_apart({"y": np.ones(3) * 2}, {"y": np.ones(3)}).most == math.inf


def test_samples_are_run_alone_and_stacked_whatever_axes_outputs_have() -> None:
    samples = {"x": np.arange(6.0, dtype=np.float32).reshape(3, 2)}

    def run(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        assert feed["x"].shape == (1, 2)
        return {"sum": feed["x"].sum(), "ids": np.array([1])}

    found = one_by_one(run, samples)
    assert list(found) == ["sum"]
    assert found["sum"].tolist() == [1.0, 5.0, 9.0]


class _Fresh(nn.Module):
    """What fresh networks leave idle."""

    def __init__(self) -> None:
        super().__init__()
        self.weak = nn.Linear(64, 64)
        nn.init.normal_(self.weak.weight, std=0.001)
        nn.init.zeros_(self.weak.bias)
        self.norm = nn.BatchNorm1d(64)
        self.token = nn.Parameter(1e-6 * torch.randn(1, 1, 64))
        self.layer_scale = nn.Parameter(torch.full((64,), 1e-6))
        self.fixed = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = x + self.token[0] + self.layer_scale * self.norm(self.weak(x))
        return found


def test_weights_that_do_nothing_are_drawn_and_others_are_kept() -> None:
    module = _Fresh()
    nn.init.constant_(module.norm.weight, 0.0)
    draw_idle(module, seed=0)
    assert float(module.weak.weight.detach().std()) * 8 == pytest.approx(1, rel=0.01)
    assert float(module.weak.bias.detach().abs().max()) > 0.05
    gains = module.norm.weight.detach()
    assert 0.5 <= float(gains.min()) < float(gains.max()) <= 1.5
    assert float(module.norm.bias.detach().mean()) == pytest.approx(0.8, abs=0.15)
    assert float(module.layer_scale.detach().min()) >= 0.2
    assert float(module.token.detach().square().mean()) == pytest.approx(0.25)
    assert not module.fixed.any()
    before = [value.clone() for value in module.parameters()]
    draw_idle(module, seed=1)
    assert all(map(torch.equal, before, module.parameters()))


def test_batch_norms_have_the_statistics_of_all_batches() -> None:
    module = _Fresh()
    draw_idle(module, seed=0)
    batches = [{"x": torch.randn(32, 64) * 3 + 1} for _ in range(2)]
    re_estimate_batch_norms(module, batches)
    with torch.no_grad():
        seen = [module.weak(batch["x"]).mean(0) for batch in batches]
    assert torch.allclose(module.state_dict()["norm.running_mean"], sum(seen) / 2, atol=1e-5)
    assert module.norm.momentum == 0.1
    assert not module.norm.training


class _Named(nn.Module):
    """A module that is fed and answers by name, as a graph's module does."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = _Fresh()

    def forward(self, feed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {"y": self.inside(feed["x"]), "count": torch.tensor(1)}


def test_training_lowers_the_loss_and_shaking_moves_everything() -> None:
    module = _Named().eval()
    draw_idle(module, seed=0)
    samples = {"x": np.random.default_rng(0).normal(size=(16, 64)).astype(np.float32)}
    moved = train_some(module, samples, steps=4, rate=1e-3, batch=16, seed=0)
    assert moved.after < moved.before
    assert not module.training
    before = {name: value.clone() for name, value in module.named_parameters()}
    shake(module, seed=0)
    still = [name for name, value in module.named_parameters() if torch.equal(value, before[name])]
    assert still == ["inside.fixed"]


def _row(what: str, kind: Kind, name: str = "net", reason: str = "") -> Row:
    return Row(name, what.partition(" ")[0], what, kind, reason=reason)


def test_a_share_is_of_all_architectures_and_a_crash_counts_as_missed() -> None:
    rows = [
        *(_row("deployed on onnxruntime", "met", f"net{at}") for at in range(19)),
        _row("deployed on onnxruntime", "refused", "untrainable"),
        _row("deployed", "crashed", "aborting"),
    ]
    found = {figure.what: (figure.figure, figure.met) for figure in figures(rows)}
    assert found == {
        "trained is deployed, of those that train": ("19 of 20, 95.0%", True),
        "trained is deployed on LiteRT, where it lowers": ("0 of 1, 0.0%", False),
        "traceback, crash or hang": ("1 of 21", False),
    }


def test_a_part_that_was_refused_half_way_is_not_left_out() -> None:
    begun = Row("net", "int8", "all in int8", "missed")
    refused = Row("net", "int8", "rest of int8", "refused", reason="no time")
    found = {figure.what: figure.figure for figure in figures([begun, refused])}
    assert found["int8 of 15 dB and more"] == "0 of 1, 0.0%"


def test_what_must_never_be_is_counted_over_what_was_measured() -> None:
    rows = [_row("harmless litert", "refused"), _row("harmless openvino f32", "missed")]
    refused, _ = figures(rows)
    assert (refused.figure, refused.met) == ("1 of 1", False)


def test_refusals_are_told_by_what_they_are_about() -> None:
    reason = "cannot be trained: operator GRU (node node_GRU_95), operator GRU (node node_GRU_178)"
    lowering = (
        "litert has no equal of: Gather (node sel): sel would be int64[2] instead of int64[3]"
    )
    assert causes(reason) == ["GRU"]
    assert causes(lowering) == ["Gather: would be instead of"]
    rows = [
        _row("trainable", "refused", "a", reason),
        _row("trainable", "refused", "b", "cannot be trained: operator GRU (node x)"),
        _row("trainable", "missed", "c", "loss 1 to 2"),
        _row("trainable", "met", "d"),
    ]
    assert list(told(rows)) == [
        "\ntrainable: 3 of 4",
        "  c: loss 1 to 2",
        "   2 refused: GRU (a, b)",
    ]


_CHILD = """
import os, signal, sys, time
name, out, *parts = sys.argv[1:]
with open(out, "ab", 0) as file:
    for part in parts:
        if part == "abort":
            print("a vendor's last words", flush=True)
            os.kill(os.getpid(), signal.SIGABRT)
        if part == "sleep":
            time.sleep(60)
        if part == "raise":
            raise RuntimeError("lost")
        for what in (part, "done"):
            row = '{"architecture":"%s","part":"%s","what":"%s","kind":"met"}\\n'
            file.write((row % (name, part, what)).encode())
"""


def test_a_part_that_ends_the_process_is_a_row_and_the_others_are_measured(tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(_CHILD)
    parts = ("first", "abort", "second", "sleep", "raise", "third")
    rows = visit("net", parts, 2.0, (sys.executable, str(child)))
    assert [(row.part, row.kind) for row in rows] == [
        ("first", "met"),
        ("abort", "crashed"),
        ("second", "met"),
        ("sleep", "hung"),
        ("raise", "traceback"),
        ("third", "met"),
    ]
    assert rows[1].reason == "SIGABRT: a vendor's last words"
    assert rows[4].reason == "RuntimeError: lost"
