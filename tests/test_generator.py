from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hasten.data import read_callable
from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (None, 2)),), ())
SOURCE = """
import numpy as np

not_callable = 3

def batches():
    yield {"x": np.zeros((2, 2), np.float32), "labels": [0, 1]}
    yield {"x": np.ones((1, 2), np.float32), "labels": [2]}

def no_generator():
    return 3

def nothing():
    return []

def tuples():
    yield (1, 2)

def raises():
    yield {"x": np.zeros((2, 2), np.float32)}
    raise RuntimeError("disk\\n  on fire")

def names_differ():
    yield {"x": np.zeros((2, 2), np.float32)}
    yield {"z": np.zeros((2, 2), np.float32)}

def dtypes_differ():
    yield {"x": np.zeros((2, 2), np.float32)}
    yield {"x": np.zeros((2, 2))}

def scalars():
    yield {"x": np.float32(1)}

def ragged():
    yield {"x": [[1, 2], [3]]}
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "batches_of_a_user.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "batches_of_a_user", raising=False)


def test_batches_are_joined() -> None:
    samples = read_callable("batches_of_a_user:batches", SIGNATURE)
    assert samples.arrays["x"].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert samples.labels is not None
    np.testing.assert_array_equal(samples.labels, [0, 1, 2])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "missing",
            "Expected 'missing' in module 'batches_of_a_user', got no such name - at --data",
        ),
        ("not_callable", "Expected a callable, got int - at {path}"),
        (
            "no_generator",
            "Expected a callable that yields batches, got TypeError: 'int' object is not iterable"
            " - at {path}",
        ),
        ("nothing", "Expected at least one batch, got none - at {path}"),
        ("tuples", "Expected a dict of arrays by input name, got tuple - at {path}, batch 0"),
        (
            "raises",
            "Expected a callable that yields batches, got RuntimeError: disk on fire - at {path}",
        ),
        (
            "names_differ",
            "Expected the arrays of the first batch, x, got z - at {path}, batch 1",
        ),
        (
            "dtypes_differ",
            "Expected items of float32[2] as in the first batch, got float64[2] - "
            "at {path}, batch 1: x",
        ),
        (
            "scalars",
            "Expected an array whose first axis is the sample, got a scalar - "
            "at {path}, batch 0: x",
        ),
    ],
)
def test_a_callable_that_gives_no_batches_says_why(name: str, message: str) -> None:
    path = f"batches_of_a_user:{name}"
    with pytest.raises(DataError) as caught:
        read_callable(path, SIGNATURE)
    assert str(caught.value) == message.format(path=path)


def test_a_value_that_is_no_array_is_an_error() -> None:
    with pytest.raises(DataError, match=r"Expected an array, got ValueError: .* batch 0: x"):
        read_callable("batches_of_a_user:ragged", SIGNATURE)


def test_a_module_that_cannot_be_imported_is_an_error() -> None:
    with pytest.raises(DataError) as caught:
        read_callable("no_such_module:batches", SIGNATURE)
    assert str(caught.value) == (
        "Expected a module 'no_such_module' that can be imported, "
        "got ModuleNotFoundError: No module named 'no_such_module' - at --data"
    )
