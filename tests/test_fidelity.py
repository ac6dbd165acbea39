"""How close answers are to the reference's: by kind, the worst decides, and no ruin passes."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hasten.data import Fidelity, Score
from hasten.data.answers import Answers, Runs, SampleAxis, axis_by_growth
from hasten.data.fidelity import OutputScore, noise_limit, score_outputs
from hasten.data.fidelity.boxes import overlaps
from hasten.data.meaning import OutputKind, find_meanings
from hasten.errors import DataError
from output_kinds import KINDS, run
from ruins import RUINS, ruined

RANDOM = np.random.default_rng(0)
LOGITS = RANDOM.standard_normal((40, 10)) * 3
ALLOWED = 0.01


def scored(have: np.ndarray, want: np.ndarray, kind: OutputKind | None = None) -> OutputScore:
    """Compare one output at the usual budget."""
    reference = Answers.of({"y": want})
    meanings = find_meanings(reference, wanted={"y": kind} if kind else {})
    (found,) = score_outputs(Answers.of({"y": have}), reference, meanings, ALLOWED)
    return found


def answers_of(kind: str, count: int = 24) -> Answers:
    """What the network of a kind answers, one sample a run."""
    subject = KINDS[kind](1, count)
    name, samples = next(iter(subject.samples.items()))
    runs = [run(subject.model, {name: samples[at : at + 1]}) for at in range(count)]
    raw = {output: [one[output] for one in runs] for output in runs[0]}
    axes = {output: axis_by_growth([one.shape for one in values]) for output, values in raw.items()}
    if kind == "sequence":
        axes = {"logits": SampleAxis(1)}
    return Answers.from_runs(
        Runs({output: _stacked(values) for output, values in raw.items()}, (1,) * count), axes
    )


def _stacked(values: list[np.ndarray]) -> np.ndarray | list[np.ndarray]:
    return np.stack(values) if len({one.shape for one in values}) == 1 else values


@pytest.fixture(scope="module", params=list(KINDS))
def reference(request: pytest.FixtureRequest) -> tuple[OutputKind, Answers]:
    return request.param, answers_of(request.param)


# Every kind


def test_the_reference_is_as_close_to_itself_as_can_be(
    reference: tuple[OutputKind, Answers],
) -> None:
    kind, answers = reference
    meanings = find_meanings(answers, wanted={answers.first.name: kind})
    for one in score_outputs(answers, answers, meanings, ALLOWED):
        assert (one.figure, one.broken) == (1.0, "")


@pytest.mark.parametrize("ruin", [name for name in RUINS if name != "second output"])
def test_ruin_is_refused_whatever_the_kind(
    reference: tuple[OutputKind, Answers], ruin: str
) -> None:
    kind, answers = reference
    name = answers.first.name
    meanings = find_meanings(answers, wanted={name: kind})
    made = Answers({name: ruined(answers.first, ruin)})
    (found,) = score_outputs(made, answers, meanings, ALLOWED)
    assert 1 - found.kept > ALLOWED


def test_half_precision_is_harmless_whatever_the_kind(
    reference: tuple[OutputKind, Answers],
) -> None:
    kind, answers = reference
    output = answers.first
    meanings = find_meanings(answers, wanted={output.name: kind})
    parts = [np.asarray(part, np.float16).astype(np.float32) for part in output.parts]
    values = None if output.values is None else np.stack(parts)
    rounded = type(output)(output.name, values, parts if values is None else values, output.axis)
    (found,) = score_outputs(Answers({output.name: rounded}), answers, meanings, ALLOWED)
    assert found.kept > 1 - ALLOWED


# The floor


@settings(max_examples=40, deadline=None)
@given(
    npst.arrays(
        np.float32, npst.array_shapes(min_dims=1, max_dims=3), elements=st.floats(-9, 9, width=32)
    )
)
def test_any_values_are_equal_to_themselves(values: np.ndarray) -> None:
    score = Fidelity().evaluate({"y": values}, None, {"y": values})
    assert score.value == pytest.approx(1)
    assert all(one.sqnr_db == 200 for one in score.outputs)


def test_a_large_constant_part_does_not_hide_that_the_rest_is_lost() -> None:
    want = 1000 + RANDOM.standard_normal((40, 20))
    found = scored(np.full_like(want, 1000), want, "regression")
    assert found.is_constant
    assert found.kept == 0


def test_codes_may_be_one_off() -> None:
    want = RANDOM.integers(-5, 5, (40, 12)).astype(np.int8)
    assert scored(want + np.int8(1), want).broken == ""
    assert scored(want[::-1], want).broken


def test_what_never_varies_has_to_stay_as_it_is() -> None:
    anchors = np.broadcast_to(np.linspace(1, 9, 12), (20, 12))
    assert scored(anchors * 1.001, anchors).broken == ""
    assert "hardly varies" in scored(anchors * 1.2, anchors).broken


@pytest.mark.parametrize(("decibels", "passes"), [(10, False), (15, True)])
def test_noise_has_to_stay_below_a_sixteenth_of_the_signal(decibels: float, passes: bool) -> None:
    noise = RANDOM.standard_normal(LOGITS.shape) * LOGITS.std() * 10 ** (-decibels / 20)
    assert (scored(LOGITS + noise, LOGITS).broken == "") == passes


def test_the_floor_gives_way_with_the_budget() -> None:
    assert noise_limit(0.0) == pytest.approx(0.063, abs=1e-3)
    assert noise_limit(0.1) == pytest.approx(0.3)


def test_one_channel_of_many_that_is_lost_is_seen() -> None:
    want = RANDOM.standard_normal((40, 64))
    have = want.copy()
    have[:, 7] = have[::-1, 7]
    found = scored(have, want, "embedding")
    assert found.broken.startswith("channel 7 keeps 0 %".replace(" %", "%"))


def test_a_channel_that_hardly_varies_may_be_lost() -> None:
    want = RANDOM.standard_normal((40, 64)) * np.r_[0.01, np.ones(63)]
    have = want.copy()
    have[:, 0] = 0
    assert scored(have, want, "embedding").broken == ""


def test_one_sample_alone_is_compared_too() -> None:
    assert scored(LOGITS[:1], LOGITS[:1]).kept == 1
    assert scored(-LOGITS[:1], LOGITS[:1]).kept == 0


# By kind


def test_a_sure_decision_that_flips_costs_as_much_as_a_wrong_one() -> None:
    want = np.full((50, 4), -4.0)
    want[np.arange(50), np.arange(50) % 4] = 4
    have = want.copy()
    have[0] = np.roll(want[0], 1)
    assert scored(have, want).figure == pytest.approx(1 - 1 / 50 * 4 / 3)


def test_a_near_tie_that_flips_costs_next_to_nothing() -> None:
    want = LOGITS.copy()
    want[:, 1] = want.max(axis=1)
    want[:, 2] = want[:, 1] - 1e-4
    have = want.copy()
    have[:, 2] += 2e-4
    assert (have.argmax(axis=1) != want.argmax(axis=1)).all()
    assert scored(have, want).figure > 1 - 1e-4


def test_classes_are_compared_along_their_own_axis() -> None:
    maps = RANDOM.standard_normal((6, 5, 12, 12)) * 3
    have = np.roll(maps, 1, axis=1)
    assert scored(have, maps, "mask").kept < 0.5


def test_each_of_a_few_columns_counts_in_its_own_unit() -> None:
    want = RANDOM.standard_normal((40, 3)) * [1000, 1, 0.01]
    have = want.copy()
    have[:, 2] = np.rint(have[:, 2] / 0.02) * 0.02
    assert scored(have, want, "regression").figure < 0.9


def test_a_waveform_one_step_late_is_seen() -> None:
    want = RANDOM.standard_normal((6, 2000))
    assert scored(np.roll(want, 1, axis=1), want, "waveform").kept == 0


def test_embeddings_that_are_nearest_to_another_sample_are_seen() -> None:
    want = RANDOM.standard_normal((40, 32)) + 30  # all of them point the same way
    assert scored(want[::-1], want, "embedding").kept == 0


def test_texts_are_the_same_or_not() -> None:
    want = np.array(["ham", "spam", "eggs", "ham"])
    have = np.array(["ham", "spam", "ham", "ham"])
    assert scored(have, want).figure == 0.75
    assert scored(np.array(["ham"] * 4), want).is_constant


def test_overlaps_are_those_of_the_textbook() -> None:
    one = np.array([[0.0, 0.0, 2.0, 2.0]])
    other = np.array([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0], [5.0, 5.0, 6.0, 6.0]])
    np.testing.assert_allclose(overlaps(one, other), [[1, 1 / 3, 0]])


def detections(count: int, shift: float = 0.0, number: float = 0.0) -> np.ndarray:
    """Rows of corners, a score and a class."""
    low = np.arange(count)[:, None] * 20.0 + [0, 5]
    rows = np.concatenate([low + shift, low + 15 + shift], axis=1)
    beside = np.stack([np.linspace(0.9, 0.4, count), (np.arange(count) + number) % 3], axis=1)
    return np.concatenate([rows, beside], axis=1)


@pytest.mark.parametrize(
    ("have", "least", "most"),
    [
        ([detections(5), detections(3)], 1, 1),
        ([detections(5)[::-1], detections(3)[::-1]], 1, 1),
        ([detections(5, shift=1), detections(3, shift=1)], 0.7, 1),
        ([detections(5, shift=10), detections(3, shift=10)], 0, 0.3),
        ([detections(5, number=1), detections(3, number=1)], 0, 0.3),
        ([detections(5), detections(3)[:0]], 0.4, 0.6),
        ([detections(8), detections(6)], 0.5, 0.95),
    ],
    ids=["same", "order", "near", "shifted", "class", "none", "more"],
)
def test_detections_are_matched_as_sets(have: list[np.ndarray], least: float, most: float) -> None:
    want = [detections(5), detections(3)]
    runs = [
        Answers.from_runs(Runs({"y": parts}, (1, 1)), {"y": SampleAxis(None)})
        for parts in (have, want)
    ]
    meanings = find_meanings(runs[1])
    assert meanings["y"].kind == "detections"
    (found,) = score_outputs(runs[0], runs[1], meanings)
    assert least <= found.figure <= most


def test_boxes_count_by_the_scores_beside_them() -> None:
    low = RANDOM.uniform(0, 300, (8, 30, 2))
    boxes = np.concatenate([low, low + 40], axis=-1)
    scores = RANDOM.uniform(0, 0.05, (8, 30))
    scores[:, :5] = RANDOM.uniform(0.6, 0.9, (8, 5))
    reference = Answers.of({"boxes": boxes, "scores": scores})
    meanings = find_meanings(reference)
    moved = boxes.copy()
    moved[:, 5:] += 200  # nobody found these
    for have, kept in ((moved, True), (boxes + 20, False)):
        found, _ = score_outputs(
            Answers.of({"boxes": have, "scores": scores}), reference, meanings, ALLOWED
        )
        assert (found.kept > 0.99) == kept


# The worst output


def test_the_worst_output_decides_and_is_named() -> None:
    want = {"boxes": RANDOM.standard_normal((20, 6)), "scores": LOGITS[:20]}
    score = Fidelity().evaluate({**want, "scores": LOGITS[:20] * 0}, None, want)
    assert score.value == 0
    assert [one.output for one in score.outputs if one.broken] == ["scores"]


def test_the_worst_sample_is_named() -> None:
    have = LOGITS.copy()
    have[13] = -have[13]
    assert scored(have, LOGITS).worst_sample == 13


@pytest.mark.parametrize(
    ("outputs", "reference", "message"),
    [
        (
            {"y": LOGITS},
            None,
            "Expected outputs of the reference model, got none - at metric fidelity",
        ),
        (
            {"z": LOGITS},
            {"y": LOGITS},
            "Expected an output 'y' as in the reference, got 'z' - at judging outputs",
        ),
        (
            {"y": LOGITS[:2]},
            {"y": LOGITS},
            "Expected 40 answers of shape [10] as in the reference, got 2 of [10] - at output 'y'",
        ),
        (
            {"y": LOGITS + np.inf},
            {"y": LOGITS},
            "Expected finite outputs, got output 'y' sample 0 holds infinity - at judging outputs",
        ),
    ],
)
def test_fidelity_says_why_it_cannot_judge(
    outputs: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray] | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        Fidelity().evaluate(outputs, None, reference)
    assert str(caught.value) == message


def test_infinity_that_the_reference_answers_too_is_no_fault() -> None:
    want = LOGITS.copy()
    want[:, 3] = -np.inf
    assert scored(want, want, "scores").kept == 1


def test_a_score_of_outputs_is_valid_json() -> None:
    score = Fidelity().evaluate({"y": LOGITS}, None, {"y": LOGITS})
    assert msgspec.json.decode(msgspec.json.encode(score), type=Score) == score
