from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.data import Preprocessing, Samples
from hasten.errors import DataError
from signatures import floats, signature, tensor

# Making and selecting


def test_importing_the_data_room_loads_neither_onnx_nor_pillow() -> None:
    code = (
        "import sys, hasten.data; print([m for m in ('onnx', 'PIL', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_selection_keeps_arrays_and_labels_together() -> None:
    chosen = Samples({"x": floats(4, 1)}, [0, 1, 2, 3]).select([3, 1]).select([1, 0])
    assert chosen.arrays["x"].ravel().tolist() == [1, 3]
    assert chosen.labels is not None
    assert chosen.labels.tolist() == [1, 3]


def test_arrays_cannot_be_written() -> None:
    samples = Samples({"x": floats(2, 1)})
    with pytest.raises(ValueError, match="read-only"):
        samples.arrays["x"][0] = 1


def test_the_arrays_given_stay_writable() -> None:
    given = floats(2, 1)
    assert Samples({"x": given}).arrays["x"].base is not None
    assert given.flags.writeable


@pytest.mark.parametrize(
    ("arrays", "labels", "message"),
    [
        ({}, None, "Expected an array for each input, got no arrays - at data"),
        (
            {"x": np.array(["a"])},
            None,
            "Expected numbers, got dtype <U1 - at data: x",
        ),
        ({"x": np.array([None])}, None, "Expected numbers, got dtype object - at data: x"),
        (
            {"x": np.float32(1)},
            None,
            "Expected an array whose first axis is the sample, got a scalar - at data: x",
        ),
        (
            {"x": np.empty((0, 3))},
            None,
            "Expected at least one value, got an array of shape [0,3] - at data: x",
        ),
        (
            {"x": floats(3), "z": floats(2)},
            None,
            "Expected the same number of samples in every array, got x 3, z 2 - at data",
        ),
        (
            {"x": floats(2)},
            [0.0, float("nan")],
            "Expected finite labels, got NaN - at data: labels, sample 1",
        ),
        (
            {"x": floats(2)},
            [0, -1],
            "Expected labels from 0, got -1 - at data: labels, sample 1",
        ),
        (
            {"x": floats(2)},
            [0, 1, 2],
            "Expected one label for each of 2 samples, got labels of shape [3] - at data: labels",
        ),
    ],
)
def test_arrays_that_are_no_samples_say_why(
    arrays: dict[str, np.ndarray], labels: list[float] | None, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        Samples(arrays, labels)
    assert str(caught.value) == message


def test_an_empty_selection_is_an_error() -> None:
    with pytest.raises(DataError, match="Expected at least one sample, got none - at data"):
        Samples({"x": floats(2)}).select([])


# Splitting


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(0, 4), min_size=2, max_size=60), st.booleans())
def test_a_split_is_a_partition(data: st.DataObject, classes: list[int], labelled: bool) -> None:
    count = data.draw(st.integers(1, len(classes) - 1))
    samples = Samples({"x": np.arange(len(classes))}, classes if labelled else None)
    calibration, validation = samples.split(calibration=count, seed=data.draw(st.integers(0, 99)))
    assert len(calibration) == count
    both = [*calibration.arrays["x"].tolist(), *validation.arrays["x"].tolist()]
    assert sorted(both) == list(range(len(classes)))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(0, 4), min_size=2, max_size=60))
def test_every_class_gives_its_share_to_within_one(data: st.DataObject, classes: list[int]) -> None:
    count = data.draw(st.integers(1, len(classes) - 1))
    calibration, _ = Samples({"x": np.arange(len(classes))}, classes).split(
        calibration=count, seed=1
    )
    assert calibration.labels is not None
    for label in set(classes):
        share = classes.count(label) * count / len(classes)
        assert abs((calibration.labels == label).sum() - share) < 1


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    samples = Samples({"x": np.arange(100)})
    first, again, other = (samples.split(calibration=50, seed=seed)[0] for seed in (1, 1, 2))
    assert first.digest == again.digest
    assert first.digest != other.digest


def test_a_split_is_shuffled_so_that_its_first_samples_are_of_all_classes() -> None:
    _, validation = Samples({"x": np.arange(200)}, [0] * 100 + [1] * 100).split(
        calibration=20, seed=0
    )
    assert validation.labels is not None
    assert set(validation.labels[:20].tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (3, "Expected more samples than the 3 for calibration, got 3 samples - at data"),
        (9, "Expected more samples than the 9 for calibration, got 3 samples - at data"),
        (0, "Expected at least one sample for calibration, got 0 - at data"),
    ],
)
def test_a_split_that_leaves_nothing_on_one_side_is_an_error(count: int, message: str) -> None:
    with pytest.raises(DataError) as caught:
        Samples({"x": floats(3)}).split(calibration=count, seed=0)
    assert str(caught.value) == message


# Feeding


def test_items_of_one_rank_less_are_stacked() -> None:
    fed = Samples({"x": floats(4, 3)}).feed(signature(tensor(None, 3)), [1, 2])
    np.testing.assert_array_equal(fed["x"], floats(4, 3)[1:3])


def test_items_of_the_input_s_own_rank_are_concatenated() -> None:
    fed = Samples({"x": floats(4, 2, 3)}).feed(signature(tensor(None, 3)), [0, 2])
    np.testing.assert_array_equal(fed["x"], floats(4, 2, 3)[[0, 2]].reshape(4, 3))


def test_a_scalar_input_takes_one_sample_at_a_time() -> None:
    samples = Samples({"x": floats(2)})
    assert samples.feed(signature(tensor()), [1])["x"].shape == ()
    with pytest.raises(DataError) as caught:
        samples.feed(signature(tensor()), [0, 1])
    assert str(caught.value) == "Expected float32[], got 2 samples that make [2] - at data: x"


def test_a_feed_is_contiguous_even_from_a_fortran_array() -> None:
    samples = Samples({"x": np.asfortranarray(floats(4, 3, 2))})
    assert samples.feed(signature(tensor(None, 3, 2)), [0, 1])["x"].flags.c_contiguous


def test_a_feed_that_misses_the_fixed_batch_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        Samples({"x": floats(4, 3)}).feed(signature(tensor(2, 3)), [0, 1, 2])
    assert str(caught.value) == "Expected float32[2,3], got 3 samples that make [3, 3] - at data: x"


def pixels() -> Samples:
    values = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    return Samples({"x": values}, preprocessing={"x": Preprocessing((4, 5))})


def test_pixels_go_to_a_float_input_preprocessed() -> None:
    fed = pixels().feed(signature(tensor(None, 3, 4, 5)), [1])["x"]
    np.testing.assert_array_equal(fed, Preprocessing((4, 5)).apply(pixels().arrays["x"][1:]))


def test_pixels_go_to_a_uint8_input_as_they_are() -> None:
    fed = pixels().feed(signature(tensor(None, 4, 5, 3, dtype="uint8")), [1])["x"]
    np.testing.assert_array_equal(fed, pixels().arrays["x"][1:])


def test_a_free_batch_is_fed_in_batches_of_the_size_asked_for() -> None:
    batches = list(Samples({"x": floats(5, 3)}).batches(signature(tensor(None, 3)), 2))
    assert [(len(feed["x"]), valid) for feed, valid in batches] == [(2, 2), (2, 2), (1, 1)]


def test_a_fixed_batch_is_always_full_and_says_how_many_rows_count() -> None:
    batches = list(Samples({"x": floats(5, 1)}).batches(signature(tensor(4, 1)), 1))
    assert [valid for _, valid in batches] == [4, 1]
    assert batches[1][0]["x"].ravel().tolist() == [4, 4, 4, 4]


def test_items_with_a_batch_axis_count_all_their_rows() -> None:
    batches = list(Samples({"x": floats(3, 2, 1)}).batches(signature(tensor(4, 1)), 1))
    assert [valid for _, valid in batches] == [4, 2]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(1, 4), st.sampled_from([None, 1, 3]))
def test_the_rows_that_count_are_all_samples_in_order(
    count: int, size: int, batch: int | None
) -> None:
    batches = Samples({"x": floats(count, 2)}).batches(signature(tensor(batch, 2)), size)
    joined = np.concatenate([feed["x"][:valid] for feed, valid in batches])
    np.testing.assert_array_equal(joined, floats(count, 2))
