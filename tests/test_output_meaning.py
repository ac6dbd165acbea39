"""What an output is: found from operators, values and shapes, or given and checked."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from onnx import helper

from hasten.data.answers import Answers, Output, Runs, SampleAxis, axis_by_growth
from hasten.data.meaning import Meaning, OutputKind, find_meanings, parse_output, parse_outputs
from hasten.errors import OptionError
from onnx_models import model, value, weight
from output_kinds import KINDS, run

RANDOM = np.random.default_rng(0)


def found(values: np.ndarray, name: str = "y") -> Meaning:
    """What stands to reason from the values alone."""
    return find_meanings(Answers.of({name: values}))[name]


def softmax(values: np.ndarray, axis: int = -1) -> np.ndarray:
    parts = np.exp(values - values.max(axis=axis, keepdims=True))
    return np.asarray(parts / parts.sum(axis=axis, keepdims=True))


def boxes(count: int, rows: int, side: float = 600.0) -> np.ndarray:
    """Corners, [count, rows, 4]."""
    low = RANDOM.uniform(0, 0.6 * side, (count, rows, 2))
    return np.concatenate([low, low + RANDOM.uniform(10, 0.4 * side, low.shape)], axis=-1)


# From operators and values together


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_network_is_found(kind: str) -> None:
    subject = KINDS[kind](0, 12)
    name, samples = next(iter(subject.samples.items()))
    runs = [run(subject.model, {name: samples[at : at + 1]}) for at in range(len(samples))]
    raw = {output: [one[output] for one in runs] for output in runs[0]}
    joined = {}
    if kind != "detections":
        joined = {2: run(subject.model, {name: samples[:2]})}
    axes = {
        output: axis_by_growth(
            [one.shape for one in values], {n: one[output].shape for n, one in joined.items()}
        )
        for output, values in raw.items()
    }
    answers = Answers.from_runs(Runs(raw, (1,) * len(runs)), axes)
    (meaning,) = find_meanings(answers, subject.model, inputs=[(None, 3, 32, 32)]).values()
    assert meaning.kind == kind


@pytest.mark.parametrize(
    ("operator", "kind"),
    [("Identity", "scores"), ("Softmax", "probabilities"), ("Sigmoid", "probabilities")],
)
def test_the_last_operator_that_makes_values_counts(operator: str, kind: str) -> None:
    graph = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["m"]),
            helper.make_node(operator, ["m"], ["s"]),
            helper.make_node("Identity", ["s"], ["y"]),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [weight("w", 4, 3)],
    )
    answers = run(graph, {"x": RANDOM.standard_normal((20, 4)).astype(np.float32)})
    meaning = find_meanings(Answers.of(answers), graph)["y"]
    assert meaning.kind == kind
    assert meaning.exclusive == (operator != "Sigmoid")


# From values alone


@pytest.mark.parametrize(
    ("values", "kind", "axis"),
    [
        (RANDOM.standard_normal((20, 10)), "scores", -1),
        (RANDOM.standard_normal((20, 10, 1, 1)), "scores", -3),
        (softmax(RANDOM.standard_normal((20, 10))), "probabilities", -1),
        (softmax(RANDOM.standard_normal((4, 5, 16, 16)), 1), "mask", -3),
        (softmax(RANDOM.standard_normal((4, 16, 16, 5))), "mask", -1),
        (RANDOM.standard_normal(20), "regression", None),
        (RANDOM.standard_normal((20, 1)), "regression", None),
        (RANDOM.standard_normal((20, 3)) + np.array([9, 0, 0]), "regression", None),
        (RANDOM.standard_normal((4, 2, 16000)), "waveform", None),
        (RANDOM.integers(0, 9, 20), "text", None),
        (RANDOM.integers(0, 9, (4, 16, 16)), "mask", None),
        (np.array(["ham", "spam"]), "text", None),
    ],
    ids=lambda case: f"{case.dtype}{list(case.shape)}" if isinstance(case, np.ndarray) else None,
)
def test_values_tell_a_kind(values: np.ndarray, kind: str, axis: int | None) -> None:
    meaning = found(values)
    assert (meaning.kind, meaning.class_axis) == (kind, axis)


def test_rows_of_length_one_are_embeddings() -> None:
    rows = RANDOM.standard_normal((20, 64))
    assert found(rows / np.linalg.norm(rows, axis=1, keepdims=True)).kind == "embedding"


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("written", ["xyxy", "cxcywh"])
def test_boxes_in_pixels_and_scores_in_one_tensor(written: str, turned: bool) -> None:
    corners = boxes(8, 50)
    if written == "cxcywh":
        sizes = corners[..., 2:] - corners[..., :2]
        corners = np.concatenate([corners[..., :2] + sizes / 2, np.minimum(sizes, 90)], axis=-1)
    table = np.concatenate([corners, RANDOM.uniform(0, 1, (8, 50, 6))], axis=-1)
    meaning = found(np.swapaxes(table, 1, 2) if turned else table)
    assert meaning.kind == "boxes_and_scores"
    assert (meaning.box_axis, meaning.box_format) == (-2 if turned else -1, written)
    answers = Answers.of({"y": np.swapaxes(table, 1, 2) if turned else table})
    told = find_meanings(answers, wanted={"y": "boxes_and_scores"})["y"]
    assert told == msgspec.structs.replace(meaning, why="given")


def test_rows_of_four_beside_scores_are_boxes() -> None:
    answers = {"a": boxes(8, 30), "b": RANDOM.uniform(0, 1, (8, 30, 5))}
    meanings = find_meanings(Answers.of(answers))
    assert meanings["a"].kind == "boxes"
    assert meanings["a"].scored_by == "b"


def test_rows_of_four_alone_are_values() -> None:
    assert found(RANDOM.standard_normal((8, 30, 4))).kind == "regression"


@pytest.mark.parametrize(("name", "kind"), [("bbox", "boxes"), ("pose", "regression")])
def test_names_tell_what_values_do_not(name: str, kind: str) -> None:
    values = boxes(8, 30) if kind == "boxes" else RANDOM.standard_normal((20, 6))
    assert found(values, name).kind == kind


def test_steps_before_samples_are_a_sequence() -> None:
    values = softmax(RANDOM.standard_normal((8, 20, 11)))
    output = Output("y", values, values, SampleAxis(1))
    assert find_meanings(Answers({"y": output}))["y"].kind == "sequence"


# Given


@pytest.mark.parametrize("text", ["logits=scores", "logits=logits", "logits = SCORES"])
def test_a_kind_is_given_by_name(text: str) -> None:
    assert parse_output(text) == ("logits", "scores")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("logits", "Expected name=kind such as logits=scores, got 'logits' - at --output"),
        ("y=scoers", "got 'scoers' - at --output y (did you mean scores?)"),
        ("=scores", "got '=scores' - at --output"),
    ],
)
def test_what_is_no_kind_says_what_there_is(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_output(text)
    assert message in str(caught.value)


def test_one_output_has_one_kind() -> None:
    with pytest.raises(OptionError, match="one kind for output 'y', got scores and mask"):
        parse_outputs(["y=scores", "y=mask"])


def test_an_output_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(OptionError, match="Expected one of the outputs 'y', got 'z'"):
        find_meanings(Answers.of({"y": np.zeros((4, 3))}), wanted={"z": "scores"})


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("scores", RANDOM.standard_normal(9)),
        ("boxes", RANDOM.standard_normal((9, 3))),
        ("boxes_and_scores", RANDOM.standard_normal((9, 20, 4))),
        ("detections", RANDOM.standard_normal((9, 3))),
        ("mask", RANDOM.standard_normal((9, 3))),
        ("sequence", RANDOM.standard_normal((9, 3))),
        ("embedding", RANDOM.standard_normal((9, 1))),
        ("regression", np.array(["ham", "spam"])),
    ],
)
def test_a_kind_that_does_not_fit_is_one_line(kind: OutputKind, values: np.ndarray) -> None:
    with pytest.raises(OptionError, match=f"for {kind}, got .* - at --output y={kind}"):
        find_meanings(Answers.of({"y": values}), wanted={"y": kind})


def test_what_is_given_is_not_second_guessed() -> None:
    values = RANDOM.standard_normal((20, 10))
    meaning = find_meanings(Answers.of({"y": values}), wanted={"y": "regression"})["y"]
    assert (meaning.kind, meaning.why) == ("regression", "given")
