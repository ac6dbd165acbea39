"""What a model answered: kept run by run, samples told apart wherever they stand."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.data.answers import (
    Answers,
    Output,
    Runs,
    RunWriter,
    SampleAxis,
    axis_by_growth,
    axis_by_rotation,
    read_runs,
)
from hasten.errors import RuntimeFailureError


def written(folder: Path, *runs: dict[str, np.ndarray], samples: int = 1) -> Runs:
    writer = RunWriter(folder / "runs")
    for run in runs:
        writer.add(run, samples)
    writer.close()
    return read_runs(folder / "runs")


# On disk


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.array(True),
        np.zeros((1, 0, 4), np.float16),
        np.array([[1 + 2j]]),
        np.array([2**62], np.int64),
        np.array([b"ham", b"spam"]),
        np.array(["", "\u00e4"], object),
    ],
    ids=lambda value: f"{value.dtype}{list(value.shape)}",
)
def test_what_a_run_answered_comes_back_as_it_was(tmp_path: Path, value: np.ndarray) -> None:
    (first, second) = written(tmp_path, {"y": value}, {"y": value}).outputs["y"]
    assert first.shape == second.shape == value.shape
    np.testing.assert_array_equal(second, value.astype(first.dtype))


def test_runs_of_different_sizes_come_back_as_they_were(tmp_path: Path) -> None:
    parts = [np.full((count, 4), count, np.float32) for count in (2, 0, 3)]
    found = written(tmp_path, *({"boxes": part} for part in parts)).outputs["boxes"]
    for part, back in zip(parts, found, strict=True):
        np.testing.assert_array_equal(back, part)


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    found = written(tmp_path, {"y": np.array([1.5], ml_dtypes.bfloat16)}).outputs["y"]
    assert found[0].dtype == np.float32


def test_texts_keep_the_longest_of_all_runs(tmp_path: Path) -> None:
    found = written(tmp_path, *({"y": np.array([text], object)} for text in ("a", "longer")))
    assert [str(one[0]) for one in found.outputs["y"]] == ["a", "longer"]


def test_objects_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError, match="output 'y' holds dict, not numbers or texts"):
        written(tmp_path, {"y": np.array([{}], object)})


# Where samples stand


@pytest.mark.parametrize(
    ("alone", "joined", "axis"),
    [
        ([(1, 10)] * 3, {2: (2, 10), 3: (3, 10)}, 0),
        ([(20, 1, 11)] * 3, {2: (20, 2, 11), 3: (20, 3, 11)}, 1),
        ([(1, 1, 4)] * 3, {2: (1, 2, 4), 3: (1, 3, 4)}, 1),
        ([()] * 3, {2: (), 3: ()}, None),
        ([(7, 4), (3, 4)], {}, None),
        ([(1, 4), (1, 4)], {2: (2, 4), 3: (9, 4)}, None),
        ([(20, 8)] * 3, {}, None),
    ],
)
def test_the_axis_of_samples_is_the_one_that_grows_with_them(
    alone: list[tuple[int, ...]], joined: dict[int, tuple[int, ...]], axis: int | None
) -> None:
    assert axis_by_growth(alone, joined).axis == axis


def test_items_with_a_batch_of_their_own_take_several_rows() -> None:
    assert axis_by_growth([(5, 3)] * 2, {2: (10, 3), 3: (15, 3)}, rows=5) == SampleAxis(0, 5)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 4), st.integers(0, 2), st.integers(0, 100))
def test_in_a_fixed_batch_it_is_the_one_that_rotates_with_them(
    samples: int, axis: int, seed: int
) -> None:
    shape = [samples] * 3  # every axis has the right size
    plain = np.random.default_rng(seed).standard_normal(shape)
    rotated = np.roll(plain, 1, axis=axis)
    assert axis_by_rotation(plain, rotated, samples).axis == axis


def test_an_output_that_mixes_a_fixed_batch_has_no_axis_of_samples() -> None:
    plain = np.arange(4.0)
    assert axis_by_rotation(plain, plain, 4).axis is None or plain.std() == 0


# Told apart


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 5),
    rank=st.integers(1, 3),
    at=st.integers(0, 2),
    batch=st.integers(1, 3),
    rows=st.integers(1, 2),
)
def test_samples_are_the_same_however_they_were_batched(
    count: int, rank: int, at: int, batch: int, rows: int
) -> None:
    """One sample a run, or several: the same samples, and joined the same array."""
    at = min(at, rank - 1)
    shape = [2] * rank
    shape[at] = count * rows
    whole = np.random.default_rng(0).standard_normal(shape)
    axis = SampleAxis(at, rows)
    found = []
    for size in (1, batch):
        starts = range(0, count, size)
        raw = [
            np.take(whole, range(s * rows, min(s + size, count) * rows), axis=at) for s in starts
        ]
        samples = [min(size, count - start) for start in starts]
        same = len({one.shape for one in raw}) == 1
        found.append(Output.from_runs("y", np.stack(raw) if same else raw, samples, axis))
    one, other = found
    assert len(one) == len(other) == count
    assert one.values is not None
    assert other.values is not None
    np.testing.assert_array_equal(one.values, other.values)
    for each in found:
        np.testing.assert_array_equal(np.asarray(each.joined), whole)


def test_padding_in_the_last_run_is_left_out() -> None:
    raw = np.array([[[1.0], [2.0]], [[3.0], [3.0]]])
    output = Output.from_runs("y", raw, [2, 1], SampleAxis(0))
    np.testing.assert_array_equal(output.values, [[1.0], [2.0], [3.0]])


def test_outputs_without_samples_are_stacked_run_by_run() -> None:
    output = Output.from_runs("y", np.zeros((3, 20, 8)), [1, 1, 1], SampleAxis(None))
    assert output.per_sample
    assert np.asarray(output.joined).shape == (3, 20, 8)


def test_detections_are_joined_as_rows_and_still_told_apart() -> None:
    parts = [np.full((count, 4), count, np.float32) for count in (2, 0, 3)]
    output = Output.from_runs("boxes", parts, [1, 1, 1], SampleAxis(None))
    assert output.values is None
    assert np.asarray(output.joined).shape == (5, 4)
    assert [len(part) for part in output.parts] == [2, 0, 3]


def test_a_selection_leaves_outputs_without_samples_alone() -> None:
    answers = Answers(
        {
            "y": Output.of("y", np.arange(4.0)),
            "mean": Output("mean", None, [np.zeros(3)], SampleAxis(None), per_sample=False),
        }
    )
    chosen = answers.select(np.array([3, 1]))
    np.testing.assert_array_equal(chosen["y"].values, [3.0, 1.0])
    assert len(chosen["mean"]) == 1
