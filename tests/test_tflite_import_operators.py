"""Each operator as converters write it, in LiteRT's interpreter and in the imported graph."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.graph.tflite import read_program
from tflite_operator_cases import CASES
from tflite_operators import interpreted, recomputed

#: Only for numbers above zero.
POSITIVE = frozenset({"log", "sqrt", "rsqrt", "embedding_lookup"})


def feed_for(content: bytes, *, positive: bool) -> dict[str, np.ndarray]:
    program = read_program(content)
    random = np.random.default_rng(1)
    feed = {}
    for index in program.inputs:
        tensor = program.tensors[index]
        array: np.ndarray
        if tensor.dtype == "bool":
            array = random.random(tensor.shape) > 0.5
        elif tensor.dtype == "float32":
            array = random.normal(size=tensor.shape) * 2
        else:
            array = random.integers(-7, 8, tensor.shape)
            array[array == 0] = 3
        feed[tensor.name] = np.asarray(np.abs(array) if positive else array, tensor.dtype)
    return feed


@pytest.mark.parametrize("name", CASES)
def test_an_operator_computes_what_the_interpreter_does(name: str) -> None:
    content = CASES[name]()
    feed = feed_for(content, positive=name in POSITIVE)
    expected, found = interpreted(content, feed), recomputed(content, feed)
    assert list(found) == list(expected)
    for key, want in expected.items():
        assert found[key].dtype == want.dtype
        np.testing.assert_allclose(found[key], want, rtol=1e-4, atol=1e-5)
