"""The search for float blocks, on a small network in ONNX Runtime."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from hasten.bundle.manifest import Interval, PrecisionPoint
from hasten.compress import Context, StaticInt8, apply_step
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import model_from_proto
from hasten.measure.clock import Deadline
from hasten.progress import Quiet
from hasten.report import frontier_table, render_html
from hasten.runtimes import Execution
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.mixed_precision import search
from hasten.tune.mixing import Mixing
from hasten.tune.quantize import Quantized, quantize_within
from manifests import manifest
from nets import conv_net, images
from onnx_models import run
from planted_metrics import Closeness

pytestmark = pytest.mark.quiet

COUNT = 24


def quantize(
    folder: Path, max_drop: float, *, seconds: float | None = None, runtime: str = "onnxruntime"
) -> Quantized:
    return quantize_within(
        model_from_proto(conv_net(), "net"),
        calibration=Samples({"x": images(COUNT)}),
        validation=Samples({"x": images(2 * COUNT)[COUNT:]}),
        metric=Closeness(),
        max_drop=max_drop,
        scratch=folder,
        runtimes=[runtime],
        deadline=Deadline.after(seconds),
        threads=1,
        base=StaticInt8(),
    )


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    """Half of what all int8 loses is allowed."""
    folder = tmp_path_factory.mktemp("strict")
    model = model_from_proto(conv_net(), "net")
    int8 = apply_step(model, StaticInt8(), Context(folder, Samples({"x": images(COUNT)})))
    feed = {"x": images(2 * COUNT)[COUNT:]}
    lost = 1 - Closeness().evaluate(run(int8, feed), None, run(model, feed)).value
    return quantize(folder, lost / 2)


def test_each_block_is_tried_alone_in_float(strict: Quantized) -> None:
    (found,) = strict.searches
    assert [one.block.name for one in found.sensitivities] == ["c1", "c2", "y"]
    assert all(one.speedup is not None for one in found.sensitivities)
    # The classifier's output is quantized only where the classifier is.
    noise = {one.block.name: one.noise_removed for one in found.sensitivities}
    assert noise["y"] == max(noise.values()) > 0


def test_within_half_of_what_int8_loses_some_blocks_are_float(strict: Quantized) -> None:
    (found,) = strict.searches
    assert found.chosen
    assert found.drop <= found.mixtures.judge.budget.max_drop
    assert strict.drop == found.drop
    assert [step.step for step in strict.model.steps] == (
        [] if found.chosen == found.mixtures.all_float else ["static_int8"]
    )


def test_no_point_of_the_frontier_beats_another_in_both(strict: Quantized) -> None:
    points = strict.points
    assert points
    for faster, slower in itertools.pairwise(points):
        assert faster.speedup.median >= slower.speedup.median
        assert faster.drop > slower.drop


def test_where_all_int8_holds_only_times_are_taken(strict: Quantized) -> None:
    (before,) = strict.searches
    found = search(
        before.mixtures,
        max_drop=1.0,
        deadline=Deadline.after(8.0),
        progress=Quiet(),
        holds=True,
    )
    assert all(one.sqnr_db is None for one in found.sensitivities)
    assert found.drop <= 1.0
    assert found.chosen or any("nothing to gain" in note for note in found.notes)


def test_without_time_the_best_that_is_known_comes_back(tmp_path: Path) -> None:
    found = quantize(tmp_path, 0.0, seconds=3.0)
    assert found.model is not None
    assert found.chosen is None or found.drop >= 0
    assert any("the time was up" in note or "budget" in note for note in found.notes)


def test_a_runtime_that_cannot_run_int8_is_refused_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="pytorch: "):
        quantize(tmp_path, 0.1, runtime="pytorch")


class TestMixing:
    """Which plan of a race is mixed."""

    def contestant(self, speedup: float, *, status: str = "", int8: bool = True) -> Contestant:
        steps = (StaticInt8(),) if int8 else ()
        made = Contestant(Candidate(steps, "onnxruntime", Execution()))
        made.speedup = Interval(speedup, speedup, speedup)
        if status:
            made.drop("over_budget", status)
        return made

    @pytest.fixture
    def mixing(self, strict: Quantized) -> Mixing:
        (found,) = strict.searches
        return Mixing(found.mixtures.builder, found.mixtures.judge, 0, Quiet())

    def test_the_fastest_that_loses_too_much_is(self, mixing: Mixing) -> None:
        leader = self.contestant(2.0, int8=False)
        lossy = [self.contestant(speed, status="loses 0.2") for speed in (2.5, 3.0)]
        assert mixing.plan([leader, *lossy], leader) is lossy[1]

    def test_one_behind_the_leader_is_not(self, mixing: Mixing) -> None:
        leader = self.contestant(3.0, int8=False)
        assert mixing.plan([leader, self.contestant(2.0, status="loses 0.2")], leader) is None

    def test_a_leader_of_int8_is_itself(self, mixing: Mixing) -> None:
        leader = self.contestant(3.0)
        assert mixing.plan([leader], leader) is leader

    def test_a_leader_is_left_alone_where_there_is_little_time(self, mixing: Mixing) -> None:
        assert mixing.search(self.contestant(3.0), Deadline.after(1.0)) is None


def test_the_frontier_is_reported_with_its_blocks() -> None:
    same = Interval(1.0, 1.0, 1.0)
    points = (
        PrecisionPoint(
            runtime="litert", float_blocks=(), blocks=9, drop=0.02, latency_ms=1.0, speedup=same
        ),
        PrecisionPoint(
            runtime="litert",
            float_blocks=("stem", "head"),
            blocks=9,
            drop=-0.001,
            latency_ms=1.25,
            speedup=Interval(0.8, 0.79, 0.81),
        ),
    )
    made = manifest(frontier=points)
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(frontier_table(made))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for words in ("2 of 9: stem, head", "none", "1.25", "+0.10 points", "0.80x [0.79, 0.81]"):
        assert words in text
        assert words in render_html(made)
    again = msgspec.json.decode(msgspec.json.encode(made), type=type(made))
    assert again.evidence.frontier == points
