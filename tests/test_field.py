"""The field of a race: who is raced, who is held back, and for what reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from hasten.compress import Context, DynamicInt8, StaticInt8, StepConfig, WeightInt8
from hasten.compress.quantization.calibration import CALIBRATORS
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from hasten.progress import Quiet
from hasten.runtimes import Execution, Probe, get_runtime
from hasten.tune.build import Builder
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.field import Field
from hasten.tune.settings import Settings
from nets import conv_net, images
from row_nets import MIXED, row_net

BOTH = ("onnxruntime", "openvino")


@dataclass(eq=False)
class Recorder(Builder):
    """A builder that remembers which chains it was asked for."""

    applied: list[tuple[StepConfig, ...]] = field(default_factory=list)

    def apply(self, steps: tuple[StepConfig, ...]) -> Model:
        self.applied.append(steps)
        return super().apply(steps)


def field_of(
    folder: Path, *, saturating: tuple[str, ...] = (), runtimes: tuple[str, ...] = ("onnxruntime",)
) -> Field:
    """The field for a small network on a processor where these runtimes saturate."""

    def probe(name: str) -> Probe:
        found = get_runtime(name).probe()
        return msgspec.structs.replace(found, int8_saturates=name in saturating, hints=("default",))

    model = model_from_proto(conv_net(), "net")
    builder = Recorder(model, Context(folder, Samples({"x": images(16)})))
    return Field(model, builder, Settings(runtimes=runtimes, threads=1), Quiet(), probe)


def racing(contestants: list[Contestant], kind: type) -> list[Contestant]:
    return [one for one in contestants if one.racing and isinstance(last(one), kind)]


def last(contestant: Contestant) -> object:
    return contestant.candidate.steps[-1] if contestant.candidate.steps else None


def weights(contestants: list[Contestant]) -> set[str]:
    return {
        step.weights
        for contestant in contestants
        if isinstance(step := last(contestant), StaticInt8 | DynamicInt8)
    }


def test_one_calibrator_races_and_the_others_are_listed_with_what_decided(tmp_path: Path) -> None:
    made = field_of(tmp_path).make()
    raced = racing(made, StaticInt8)
    assert [last(one).activations for one in raced] == ["u8", "s8"]  # type: ignore[attr-defined]
    waiting = [one for one in made if not one.racing and isinstance(last(one), StaticInt8)]
    assert len(waiting) == 2 * (len(CALIBRATORS) - 1)
    assert all("dB of the calibration outputs" in one.reason for one in waiting)


def test_only_weights_of_8_bits_are_thought_of_where_nothing_saturates(tmp_path: Path) -> None:
    assert weights(field_of(tmp_path).make()) == {"w8"}


@pytest.mark.parametrize("kind", [StaticInt8, DynamicInt8])
def test_weights_of_7_bits_race_where_products_saturate(kind: type, tmp_path: Path) -> None:
    made = field_of(tmp_path, saturating=BOTH).make()
    assert weights(racing(made, kind)) == {"w7"}


def test_weights_of_8_bits_are_listed_there_as_not_raced(tmp_path: Path) -> None:
    made = field_of(tmp_path, saturating=BOTH).make()
    wide = [one for one in made if weights([one]) == {"w8"}]
    assert len(wide) == 2 * len(CALIBRATORS) + 1
    assert {one.reason for one in wide} == {
        "not raced: int8 products of onnxruntime saturate on this processor unless weights keep to"
        " 7 bits (w7)"
    }
    assert {one.status for one in wide} == {"lost"}


def test_as_many_race_on_either_kind_of_processor(tmp_path: Path) -> None:
    counts = []
    for saturating in ((), BOTH):
        folder = tmp_path / str(len(saturating))
        folder.mkdir()
        made = field_of(folder, saturating=saturating).make()
        counts.append(sum(one.racing for one in made))
    assert counts[0] == counts[1]


def test_a_runtime_that_does_not_saturate_races_with_8_bits_beside_one_that_does(
    tmp_path: Path,
) -> None:
    made = field_of(tmp_path, saturating=("onnxruntime",), runtimes=BOTH).make()
    raced = racing(made, StaticInt8)
    widths = {
        name: weights([one for one in raced if one.candidate.runtime == name]) for name in BOTH
    }
    assert widths == {"onnxruntime": {"w7"}, "openvino": {"w8"}}


def test_calibrators_are_ranked_with_graphs_that_do_not_saturate(tmp_path: Path) -> None:
    """OpenVINO alone races, with 8 bits; calibrators are ranked in ONNX Runtime nevertheless."""
    made = field_of(tmp_path, saturating=("onnxruntime",), runtimes=("openvino",))
    contestants = made.make()
    assert weights(contestants) == {"w8"}
    assert isinstance(made.builder, Recorder)
    tried = [steps[-1] for steps in made.builder.applied if steps]
    ranked = [step for step in tried if isinstance(step, StaticInt8)][: len(CALIBRATORS)]
    assert {step.weights for step in ranked} == {"w7"}


def test_other_calibrators_of_a_plan_keep_its_weights(tmp_path: Path) -> None:
    made = field_of(tmp_path, saturating=BOTH)
    raced = racing(made.make(), StaticInt8)
    others = made.alternates(raced[0])
    assert len(others) == len(CALIBRATORS) - 1
    assert weights(others) == {"w7"}
    assert all(one.lowered is not None for one in others)
    assert made.alternates(raced[0]) == []


def test_what_stands_in_for_another_is_refused_for_both(tmp_path: Path) -> None:
    made = field_of(
        tmp_path, saturating=("onnxruntime",), runtimes=("pytorch", "onnxruntime")
    ).make()
    (refused,) = [one for one in made if one.candidate.runtime == "pytorch"]
    assert refused.status == "refused"
    assert "more candidates of pytorch" in refused.reason


def test_weight_only_int8_has_no_products_to_saturate(tmp_path: Path) -> None:
    made = field_of(tmp_path, saturating=BOTH).make()
    assert all("saturate" not in one.reason for one in made if isinstance(last(one), WeightInt8))


def test_where_activations_are_signed_anyway_signed_ones_are_not_raced_again(
    tmp_path: Path,
) -> None:
    made = field_of(tmp_path, runtimes=("litert",)).make()
    steps = {
        step.activations
        for one in racing(made, StaticInt8)
        if isinstance(step := last(one), StaticInt8)
    }
    assert steps == {"u8"}
    held = [
        one
        for one in made
        if isinstance(step := last(one), StaticInt8) and step.activations == "s8"
    ]
    assert held
    assert all("the same program" in one.reason for one in held)


def test_samples_that_would_mix_are_never_batched(tmp_path: Path) -> None:
    graph = model_from_proto(row_net(MIXED["mean of all"]), "net")
    builder = Recorder(graph, Context(tmp_path, Samples.synthetic(graph.signature, 16, 0)))
    settings = Settings(target="throughput", runtimes=("onnxruntime",), threads=1)
    found = Field(graph, builder, settings, Quiet(), lambda name: get_runtime(name).probe()).make()
    assert {one.candidate.execution.batch for one in found if not one.reason} <= {1}
    said = [one.reason for one in found if one.candidate.execution.batch > 1]
    assert said == [f"samples cannot share a batch: {graph.rows}"]


def test_a_step_that_takes_one_scale_of_a_batch_is_raced_with_one_sample(tmp_path: Path) -> None:
    graph = model_from_proto(conv_net(), "net")
    builder = Builder(graph, Context(tmp_path, Samples({"x": images(16)})))
    for batch, reason in ((1, ""), (8, "samples cannot share a batch: rows are mixed")):
        made = builder.contestant(
            Candidate((DynamicInt8(),), "onnxruntime", Execution(batch=batch))
        )
        assert made.reason.startswith(reason)
        assert bool(made.reason) == bool(reason)
