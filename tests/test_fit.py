from __future__ import annotations

import numpy as np
import pytest

from hasten.data import Preprocessing, Samples
from hasten.errors import DataError
from hasten.graph import TensorSpec
from signatures import floats, signature, tensor


def message_of(samples: Samples, *inputs: TensorSpec) -> str:
    with pytest.raises(DataError) as caught:
        samples.check(signature(*inputs))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def pixels() -> Samples:
    values = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    return Samples({"x": values}, preprocessing={"x": Preprocessing((4, 5))})


def test_samples_that_fit_pass() -> None:
    both = signature(tensor(None, 3), tensor(None, name="mask", dtype="bool"))
    Samples({"x": floats(2, 3), "mask": np.ones(2, bool)}).check(both)


def test_a_missing_array_suggests_the_nearest_name() -> None:
    assert message_of(Samples({"imag": floats(2, 3)}), tensor(None, 3, name="image")) == (
        "Expected an array 'image', got 'imag' - at data (is it 'imag'?)"
    )


def test_an_unknown_array_is_an_error() -> None:
    samples = Samples({"x": floats(2, 3), "extra": floats(2)})
    assert message_of(samples, tensor(None, 3)) == (
        "Expected only the model's inputs 'x', got an array 'extra' - at data"
    )


def test_a_wider_dtype_is_not_cast_in_silence() -> None:
    assert message_of(Samples({"x": floats(2, 3).astype(np.float64)}), tensor(None, 3)) == (
        "Expected float32, got float64 - at data: x (cast it with array.astype('float32'))"
    )


def test_a_wrong_rank_says_both_forms_that_fit() -> None:
    assert message_of(Samples({"x": floats(2)}), tensor(None, 3)) == (
        "Expected 2 axes (or 3, each item with a batch axis) for float32[?,3], got 1 axes, [2] - "
        "at data: x"
    )


def test_a_wrong_shape_says_the_items_expected() -> None:
    assert message_of(Samples({"x": floats(2, 4)}), tensor(None, 3)) == (
        "Expected items of [3] for float32[?,3], got [4] - at data: x"
    )


def test_items_that_do_not_divide_a_fixed_batch_are_an_error() -> None:
    assert message_of(Samples({"x": floats(2, 3, 1)}), tensor(4, 1)) == (
        "Expected items of [4,1] for float32[4,1], got [3,1] - at data: x"
    )


def test_inputs_that_want_different_numbers_of_samples_are_an_error() -> None:
    samples = Samples({"x": floats(4, 3), "scale": floats(4)})
    assert message_of(samples, tensor(4, 3), tensor(1, name="scale")) == (
        "Expected items that fill every input with the same number of samples, got x 4, scale 1 - "
        "at data (give each item with the input's own batch axis)"
    )


@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (-np.inf, "infinity")])
def test_a_value_that_is_not_finite_is_named_with_its_sample(value: float, word: str) -> None:
    array = floats(4, 3)
    array[2, 1] = value
    assert message_of(Samples({"x": array}), tensor(None, 3)) == (
        f"Expected finite numbers, got {word} - at data: x, sample 2"
    )


def test_pixels_of_another_size_are_an_error() -> None:
    samples = Samples({"x": np.ones((1, 4, 4, 3), np.uint8)}).with_preprocessing(
        "x", Preprocessing((4, 5))
    )
    assert message_of(samples, tensor(None, 3, 4, 5)) == (
        "Expected pixels uint8[?,4,5,3] to preprocess, got uint8[1,4,4,3] - at data: x"
    )


def test_preprocessing_in_another_layout_than_the_input_is_an_error() -> None:
    assert message_of(pixels(), tensor(None, 4, 5, 3)) == (
        "Expected float32[?,4,5,3], got images of [3,4,5] after preprocessing - at data: x "
        "(set size, layout and colour of --preprocess)"
    )


def test_pixels_for_an_input_of_another_dtype_are_an_error() -> None:
    assert message_of(pixels(), tensor(None, 3, 4, 5, dtype="float16")) == (
        "Expected an input of float32 or uint8, got x: float16[?,3,4,5] - at data: x"
    )
