from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from hasten.data import Labels, Samples, load_samples, read_callable, read_object
from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec

ONE = Signature((TensorSpec("x", "float32", (None, 2)),), ())
TWO = Signature((TensorSpec("a", "float32", (None, 2)), TensorSpec("b", "int64", (None,))), ())
X = np.arange(6, dtype=np.float32).reshape(3, 2)
Y = np.array([1, 0, 2])
B = np.array([7, 8, 9])


class WithoutEnd(Dataset[Any]):
    """Only its length says where it ends: no index is refused."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, at: int) -> Any:
        return X[at % 3], Y[at % 3]


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from zip(torch.from_numpy(X), Y.tolist(), strict=True)


class HubRows:
    """As datasets of the Hugging Face hub: rows of Python's own numbers by column."""

    features = ("x", "label")

    def __len__(self) -> int:
        return 3

    def __getitem__(self, at: int) -> Any:
        return {"x": X[at].tolist(), "label": int(Y[at])}

    def __iter__(self) -> Iterator[Any]:
        return (self[at] for at in range(3))


def generated() -> Iterator[Any]:
    yield {"x": X[:2], "labels": Y[:2]}
    yield {"x": X[2:], "labels": Y[2:]}


LABELLED: dict[str, Callable[[], object]] = {
    "samples": lambda: Samples({"x": X}, Y),
    "dict": lambda: {"x": X, "labels": Y},
    "dict with label": lambda: {"x": X, "label": Y.tolist()},
    "tensors": lambda: {"x": torch.from_numpy(X).requires_grad_(), "labels": torch.from_numpy(Y)},
    "loader": lambda: DataLoader(TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), 2),
    "loader without batches": lambda: DataLoader(WithoutEnd(), batch_size=None),
    "tensor dataset": lambda: TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "dataset without end": WithoutEnd,
    "iterable dataset": Stream,
    "hub rows": HubRows,
    "hub rows in a loader": lambda: DataLoader(WithoutEnd(), 3),
    "generator": generated,
    "function that yields": lambda: generated,
    "function that returns": lambda: lambda: {"x": X, "labels": Y},
    "list of dicts": lambda: [{"x": x, "labels": y} for x, y in zip(X, Y, strict=True)],
    "list of tuples": lambda: list(zip(X, Y, strict=True)),
    "list of batches": lambda: [(X[:2], Y[:2]), (X[2:], Y[2:])],
    "items with a batch axis": lambda: [(x[None], y[None]) for x, y in zip(X, Y, strict=True)],
    "python numbers": lambda: [([0.0, 1.0], 1), ([2.0, 3.0], 0), ([4.0, 5.0], 2)],
    "dicts within tuples": lambda: [({"x": x}, y) for x, y in zip(X, Y, strict=True)],
}


@pytest.mark.parametrize("name", LABELLED)
def test_labelled_data_of_any_form_is_taken(name: str, tmp_path: Path) -> None:
    samples = load_samples(LABELLED[name](), ONE, scratch=tmp_path)
    np.testing.assert_array_equal(samples.arrays["x"], X)
    assert samples.labels is not None
    assert samples.labels.tolist() == Y.tolist()


@pytest.mark.parametrize(
    "source",
    [X, torch.from_numpy(X), list(X), [[0, 1], [2, 3], [4, 5]], [(x,) for x in X], iter([X])],
    ids=["array", "tensor", "list of arrays", "lists", "tuples of one", "batches"],
)
def test_a_model_with_one_input_takes_bare_arrays(source: object, tmp_path: Path) -> None:
    samples = load_samples(source, ONE, scratch=tmp_path)
    np.testing.assert_array_equal(samples.arrays["x"], X)
    assert samples.ground_truth is None


@pytest.mark.parametrize(
    "source",
    [
        list(zip(X, B, Y, strict=True)),
        [((x, b), y) for x, b, y in zip(X, B, Y, strict=True)],
        [{"a": x, "b": b, "labels": y} for x, b, y in zip(X, B, Y, strict=True)],
        [({"a": X, "b": B}, Y)],
    ],
)
def test_several_inputs_come_as_tuples_or_by_name(source: object, tmp_path: Path) -> None:
    samples = load_samples(source, TWO, scratch=tmp_path)
    assert samples.arrays["b"].tolist() == B.tolist()
    assert samples.labels is not None
    assert samples.labels.tolist() == Y.tolist()


def test_bfloat16_tensors_keep_their_dtype(tmp_path: Path) -> None:
    half = Signature((TensorSpec("x", "bfloat16", (None, 2)),), ())
    samples = load_samples(torch.from_numpy(X).bfloat16(), half, scratch=tmp_path)
    np.testing.assert_array_equal(samples.arrays["x"].astype(np.float32), X)


def test_labels_of_every_kind_come_with_rows() -> None:
    boxes = [{"boxes": [[0, 0, 2, 2]], "labels": [1]}, {"boxes": [], "labels": []}]
    found = read_object([(X[0], boxes[0]), (X[1], boxes[1])], ONE).ground_truth
    assert isinstance(found, Labels)
    assert [len(one) for one in found.each("boxes")] == [1, 0]
    texts = read_object([(X[0], "one"), (X[1], "two")], ONE).ground_truth
    assert texts is not None
    assert texts.texts == ["one", "two"]
    masks = read_object([(X[0], np.full((3, 3), 2)), (X[1], np.zeros((3, 3), int))], ONE)
    assert masks.ground_truth is not None
    assert masks.ground_truth.kind == "mask"


class Raises(Dataset[Any]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, at: int) -> Any:
        raise RuntimeError("disk\n  on fire")


@pytest.mark.parametrize(
    ("source", "signature", "message"),
    [
        (None, ONE, "got None - at data"),
        (3, ONE, "got int - at data"),
        (object(), ONE, "got object - at data"),
        ([], ONE, "Expected at least one sample, got none - at data"),
        (DataLoader(Raises()), ONE, "got RuntimeError: disk on fire - at data"),
        (lambda: 1 / 0, ONE, "got ZeroDivisionError: division by zero - at data"),
        (lambda needed: needed, ONE, "Expected a callable without arguments"),
        (X, TWO, "Expected arrays for the inputs 'a', 'b', got one ndarray - at data"),
        (
            [{"x": X[0], "mask": 1, "idx": 2}],
            ONE,
            "Expected only the model's inputs 'x', and labels, got 'mask', 'idx' - at data, item 0"
            " (leave out or rename what the model does not take)",
        ),
        (
            [{"x": X[0]}, {"z": X[0]}],
            ONE,
            "Expected only the model's inputs 'x', and labels, got 'z' - at data, item 1",
        ),
        ([{"a": X[0]}], TWO, "Expected a value for input 'b', got 'a' - at data, item 0"),
        ([(X[0], 1, 2, 3)], TWO, "Expected 2 inputs (a, b), with or without a label, got 4 values"),
        (["text"], ONE, "Expected numbers, got dtype <U4 - at data: x"),
        ([X[0], X[0].astype(float)], ONE, "Expected samples of float32[2] as in the first item"),
        ([np.zeros(2, np.float32), np.zeros(3, np.float32)], ONE, "got float32[3] - at data, item"),
        ([(X[0], 1), (X[1],)], ONE, "Expected x, labels as in the first item, got x"),
        ([{"x": [[1, 2], [3]]}], ONE, "Expected an array, got ValueError"),
        ([({"a": X[0], "b": B},)], TWO, "Expected one sample for all inputs, or a batch for all"),
        ({"train": HubRows()}, ONE, "Expected one dataset, got several, train"),
        ([(X, 1)], ONE, "Expected a label for each sample of a batch, got int"),
    ],
)
def test_data_that_cannot_be_meant_is_told_in_one_line(
    source: object, signature: Signature, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        load_samples(source, signature, scratch=tmp_path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


SOURCE = """
import numpy as np

not_callable = 3

def batches():
    yield {"x": np.zeros((2, 2), np.float32), "labels": [0, 1]}
    yield {"x": np.ones((1, 2), np.float32), "labels": [2]}

def three():
    return 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "batches_of_a_user.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "batches_of_a_user", raising=False)


@pytest.mark.usefixtures("module")
def test_a_callable_is_found_by_its_path() -> None:
    samples = read_callable("batches_of_a_user:batches", ONE)
    assert samples.arrays["x"].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 1, 2]


@pytest.mark.usefixtures("module")
@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "batches_of_a_user:missing",
            "Expected 'missing' in module 'batches_of_a_user', got no such name - at --data",
        ),
        (
            "batches_of_a_user:not_callable",
            "Expected a callable, got int - at batches_of_a_user:not_callable",
        ),
        ("batches_of_a_user:three", "got int - at batches_of_a_user:three"),
        (
            "no_such_module:batches",
            "Expected a module 'no_such_module' that can be imported, "
            "got ModuleNotFoundError: No module named 'no_such_module' - at --data",
        ),
    ],
)
def test_a_path_that_leads_to_no_data_says_why(path: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        read_callable(path, ONE)
    assert message in str(caught.value)
