"""Arrays of every dtype come out of shared memory as they went in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from hasten.worker.shared_arrays import SharedMemory, new_memory

_NUMBERS = numpy_strategies.arrays(
    st.sampled_from(["bool", "int8", "uint16", "int64", "float16", "float32", ">f8", "complex64"]),
    numpy_strategies.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
_TEXTS = numpy_strategies.arrays(
    object, numpy_strategies.array_shapes(min_dims=0, min_side=0), elements=st.text(max_size=5)
)
_FIXED = numpy_strategies.arrays("<U7", numpy_strategies.array_shapes(min_side=0))


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[int]:
    descriptor = new_memory(tmp_path)
    yield descriptor
    os.close(descriptor)


@given(st.lists(_NUMBERS | _TEXTS | _FIXED, max_size=4))
def test_what_is_written_is_read(values: list[np.ndarray]) -> None:
    descriptor = new_memory(Path())
    arrays = {f"x{at}": value for at, value in enumerate(values)}
    there = SharedMemory(descriptor).read(SharedMemory(descriptor).write(arrays))
    os.close(descriptor)
    for name, value in arrays.items():
        assert there[name].shape == value.shape
        assert there[name].dtype == value.dtype.newbyteorder("=")
        np.testing.assert_array_equal(there[name], value)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4])
def test_dtypes_that_numpy_lacks_are_read_as_they_were(dtype: type, memory: int) -> None:
    array: np.ndarray = np.arange(-4, 4).astype(dtype)
    (there,) = SharedMemory(memory).read(SharedMemory(memory).write({"x": array})).values()
    assert there.dtype == dtype
    np.testing.assert_array_equal(there, array)


def test_arrays_that_are_not_contiguous_are_written_in_their_order(memory: int) -> None:
    array = np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1)[::-1]
    (there,) = SharedMemory(memory).read(SharedMemory(memory).write({"x": array})).values()
    np.testing.assert_array_equal(there, array)


def test_memory_grows_on_both_sides_and_what_was_read_before_stays_readable(memory: int) -> None:
    near, far = SharedMemory(memory), SharedMemory(memory)
    small = far.read(near.write({"x": np.ones(3)}))["x"]
    large = far.read(near.write({"x": np.full(10**6, 2.0)}))["x"]
    assert (large == 2).all()
    assert small.tolist() == [2, 2, 2]  # the same memory, written again


def test_objects_that_are_no_text_are_refused_by_their_type(memory: int) -> None:
    with pytest.raises(TypeError, match="holds bytes, not text alone"):
        SharedMemory(memory).write({"x": np.array([b"raw"], object)})
