from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.data import Labels, Samples
from hasten.errors import DataError

RANDOM = np.random.default_rng(0)


def boxes_of(counts: list[int]) -> Labels:
    boxes = [np.arange(4.0 * count).reshape(count, 4) for count in counts]
    classes = [np.arange(count) for count in counts]
    return Labels.of_boxes(boxes, classes, ids=(1, 5), names=("a", "b"), size=(4, 6))


MADE: dict[str, Labels] = {
    "classes": Labels.array("classes", np.array([2, 0, 1])),
    "several": Labels.array("several", np.array([[0, 1], [1, 1], [0, 0]], np.uint8)),
    "values": Labels.array("values", np.array([[0.5], [1.5], [-2.0]])),
    "mask": Labels.array("mask", RANDOM.integers(0, 9, (3, 2, 2)), size=(2, 2)),
    "boxes": boxes_of([2, 0, 1]),
    "no boxes": boxes_of([0, 0, 0]),
    "texts": Labels.of_texts(["grün", "", "a b"], alphabet=("a", " ")),
}


def known(labels: Labels) -> list[Any]:
    """Everything that labels say, sample by sample, and beside it."""
    plain = labels.plain
    beside = [labels.kind, labels.names, labels.ids, labels.size, labels.alphabet]
    return [*[str(one) for one in plain], *beside]


def samples_with(labels: Labels) -> Samples:
    return Samples({"x": np.arange(len(labels), dtype=np.float32)}, labels)


@pytest.mark.parametrize("name", MADE)
def test_labels_are_saved_and_loaded_with_their_samples(name: str, tmp_path: Path) -> None:
    samples = samples_with(MADE[name]).select([2, 0])
    samples.save(tmp_path)
    loaded = Samples.load(tmp_path)
    assert loaded.ground_truth is not None
    assert known(loaded.ground_truth) == known(MADE[name].select([2, 0]))
    assert loaded.digest == samples.digest


@pytest.mark.parametrize("name", MADE)
def test_labels_go_where_their_samples_go(name: str) -> None:
    samples = samples_with(MADE[name])
    few, rest = samples.split(calibration=1, seed=0)
    for part in (few, rest):
        rows = part.arrays["x"].astype(int)
        assert part.ground_truth is not None
        assert known(part.ground_truth) == known(MADE[name].select(rows))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.data())
def test_a_selection_of_boxes_holds_those_of_its_samples(
    counts: list[int], data: st.DataObject
) -> None:
    labels = boxes_of(counts)
    rows = data.draw(st.lists(st.integers(0, len(counts) - 1), min_size=1, max_size=8))
    chosen = labels.select(rows)
    assert [len(one) for one in chosen.each("boxes")] == [counts[row] for row in rows]
    for row, boxes in zip(rows, chosen.each("boxes"), strict=True):
        np.testing.assert_array_equal(boxes, labels.each("boxes")[row])


def test_only_classes_are_an_array_of_classes() -> None:
    assert {name: samples_with(one).labels is None for name, one in MADE.items()} == {
        name: name != "classes" for name in MADE
    }


def test_the_digest_knows_labels_of_every_kind() -> None:
    assert len({samples_with(one).digest for one in MADE.values()}) == len(MADE)


@pytest.mark.parametrize(
    ("given_", "kind"),
    [
        ([0, 1, 2], "classes"),
        (np.array([True, False, True]), "classes"),
        (np.array([[1], [0], [3]], np.uint8), "classes"),
        (np.array([[0, 1], [1, 1], [0, 0]]), "several"),
        (np.array([[0, 1, -1], [1, 3, 2], [0, 0, 4]]), "mask"),
        (RANDOM.integers(0, 4, (3, 1, 5, 5)), "mask"),
        ([0.5, 1.0, 2.0], "values"),
        (np.zeros((3, 2), np.float16), "values"),
        (["a", "b", "c"], "texts"),
        (np.array(["a", "b", "c"]), "texts"),
        ([{"boxes": [[0, 0, 1, 1]], "classes": [0]}] * 3, "boxes"),
    ],
)
def test_dtype_and_shape_say_which_kind_labels_are(given_: Any, kind: str) -> None:
    found = Samples({"x": np.zeros(3)}, given_).ground_truth
    assert found is not None
    assert found.kind == kind


def test_masks_of_black_and_white_are_of_two_classes() -> None:
    masks = np.zeros((1, 4, 4), np.uint8)
    masks[0, 0] = 255
    found = Samples({"x": np.zeros(1)}, masks).ground_truth
    assert found is not None
    assert np.unique(found.values).tolist() == [0, 1]


BOX = {"boxes": [[0, 0, 1, 1]], "classes": [0]}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1], "Expected labels from 0, got -1 - at data: labels, sample 1"),
        (
            [0, 1, 2],
            "Expected one label for each of 2 samples, got labels of shape [3] - at data: labels",
        ),
        (7, "Expected one label for each of 2 samples, got labels of shape [] - at data: labels"),
        ([0.5, np.nan], "Expected finite labels, got NaN - at data: labels, sample 1"),
        ([1j, 2j], "Expected labels of numbers or texts, got dtype complex128 - at data: labels"),
        ([[1, 2], [3]], "Expected labels of one shape, got ValueError"),
        (["a"], "Expected one label for each of 2 samples, got 1 texts - at data: labels"),
        ([BOX], "Expected one label for each of 2 samples, got labels of 1 - at data: labels"),
        (
            [BOX, {"boxes": []}],
            "Expected a dict with 'boxes' and 'classes', got 'boxes' - at data: labels, sample 1",
        ),
        (
            [BOX, {"boxes": [[0, 0, 1]], "classes": [0]}],
            "Expected boxes [k, 4] and their classes [k], got [1, 3] and [1]",
        ),
        (
            [BOX, {"boxes": [[5, 0, 1, 1]], "classes": [0]}],
            "Expected boxes as left, top, right, bottom, each larger than nothing, "
            "got [5.0, 0.0, 1.0, 1.0] - at data: labels, sample 1",
        ),
        (
            [BOX, {"boxes": [[0, 0, 1, 1]], "classes": [0.5]}],
            "Expected integer classes, got dtype float64",
        ),
        (np.zeros((2, 0), int), "Expected labels with values, got shape [2, 0]"),
        (np.array([["a"], ["b"]]), "Expected one text a sample, got texts of shape [2, 1]"),
    ],
)
def test_labels_that_are_none_say_why(labels: Any, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Samples({"x": np.zeros(2)}, labels)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
