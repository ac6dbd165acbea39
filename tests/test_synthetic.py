from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from hasten.data import Samples
from hasten.errors import ModelError
from signatures import signature, tensor


def test_synthetic_data_fits_any_model_of_known_sizes() -> None:
    every = signature(
        tensor(None, 3),
        tensor(None, 4, name="tokens", dtype="int64"),
        tensor(None, 2, 2, 3, name="pixels", dtype="uint8"),
        tensor(None, name="mask", dtype="bool"),
        tensor(None, 3, name="half", dtype="bfloat16"),
    )
    samples = Samples.synthetic(every, 50, seed=0)
    samples.check(every)
    assert set(np.unique(samples.arrays["tokens"])) == {0, 1}
    assert samples.arrays["pixels"].max() > 200
    assert samples.arrays["half"].dtype == ml_dtypes.bfloat16


def test_synthetic_data_fits_inputs_of_different_fixed_batches() -> None:
    mixed = signature(tensor(4, 3), tensor(1, name="scale"), tensor(name="step"))
    samples = Samples.synthetic(mixed, 2, seed=0)
    samples.check(mixed)
    assert [valid for _, valid in samples.batches(mixed, 1)] == [4, 4]


def test_the_same_seed_draws_the_same_data() -> None:
    one = signature(tensor(None, 3))
    assert Samples.synthetic(one, 2, 7).digest == Samples.synthetic(one, 2, 7).digest
    assert Samples.synthetic(one, 2, 7).digest != Samples.synthetic(one, 2, 8).digest


def test_synthetic_data_needs_every_size_but_the_batch() -> None:
    with pytest.raises(ModelError) as caught:
        Samples.synthetic(signature(tensor(None, 3, None)), 1, 0)
    assert str(caught.value) == (
        "Expected a size for dimension 2, got float32[?,3,?] - at input 'x' "
        "(give --data or --input name=dtype[...])"
    )


def test_synthetic_data_is_numbers_only() -> None:
    with pytest.raises(ModelError) as caught:
        Samples.synthetic(signature(tensor(None, dtype="string")), 1, 0)
    assert str(caught.value) == (
        "Expected inputs of numbers, got x: string[?] - at synthetic data (give --data)"
    )
