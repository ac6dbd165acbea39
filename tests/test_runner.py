"""A runner's batches through real runtimes: every row that is run belongs to the batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hasten.errors import RuntimeFailureError
from hasten.graph import model_from_proto
from hasten.runtimes import Execution, get_runtime
from hasten.serve.engine.request import Batch
from hasten.serve.engine.runner import Runner
from scheduling import made
from served_models import identity, picking

SIZES = (1, 4, 8)


def runner(proto: object, folder: Path, runtime: str = "onnxruntime") -> Runner:
    """A runner that is ready for batches of these sizes."""
    found = get_runtime(runtime)
    lowered = found.lower(model_from_proto(proto, "net"), folder)  # type: ignore[arg-type]
    one = Runner(found, lowered, Execution(), batched=True)
    for size in SIZES:
        one.prepare(size)
    return one


def batch_of(values: list[np.ndarray], size: int) -> Batch:
    """Requests with these inputs, run with so many rows."""
    requests = [made(rows=len(value)) for value in values]
    for request, value in zip(requests, values, strict=True):
        request.inputs = (value,)
    batch = Batch(requests, sum(len(value) for value in values))
    batch.size = size
    return batch


@pytest.fixture(scope="module")
def picks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    one = runner(picking(), tmp_path_factory.mktemp("picking"))
    yield one
    one.close()


def picked(one: Runner, numbers: list[int], size: int) -> list[float]:
    batch = batch_of([np.array([number]) for number in numbers], size)
    one.run(batch)
    assert batch.result is not None
    return [float(value) for value in batch.result.outputs[0]]


def test_a_batch_that_failed_leaves_nothing_that_makes_the_next_fail(picks: Runner) -> None:
    with pytest.raises(RuntimeFailureError):
        picked(picks, [0, 1, 2, 99], 4)
    assert picked(picks, [2, 1], 4) == [30, 20]
    with pytest.raises(RuntimeFailureError):
        picked(picks, [99] * 8, 8)
    assert picked(picks, [1, 1, 0, 2, 2], 8) == [20, 20, 10, 30, 30]


BATCHES = st.lists(
    st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=3), min_size=1, max_size=4).filter(
        lambda values: sum(map(len, values)) <= 8
    ),
    min_size=1,
    max_size=5,
)


@given(BATCHES)
def test_no_good_request_fails_whatever_ran_before(
    picks: Runner, batches: list[list[list[int]]]
) -> None:
    for values in batches:
        rows = sum(map(len, values))
        size = min(one for one in SIZES if one >= rows)
        batch = batch_of([np.array(value) for value in values], size)
        good = all(-3 <= number < 3 for value in values for number in value)
        if not good:
            with pytest.raises(RuntimeFailureError):
                picks.run(batch)
            continue
        picks.run(batch)
        assert batch.result is not None
        wanted = [10 * (number % 3 + 1) for value in values for number in value]
        assert batch.result.outputs[0].tolist() == wanted


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert", "openvino"])
@pytest.mark.parametrize("datatype", ["FP32", "INT64"])
def test_what_pads_a_batch_is_its_own_first_row(
    tmp_path: Path, runtime: str, datatype: str
) -> None:
    one = runner(identity(datatype), tmp_path, runtime)
    kind = np.float32 if datatype == "FP32" else np.int64
    one.run(batch_of([np.full((4, 3), 99, kind)], 4))
    one.run(batch_of([np.full((1, 3), 5, kind), np.full((2, 3), 7, kind)], 4))
    (held,) = one._bindings[4].inputs()
    assert held.tolist() == [[5] * 3, [7] * 3, [7] * 3, [5] * 3]
    one.close()


def test_texts_are_padded_too(tmp_path: Path) -> None:
    one = runner(identity("BYTES"), tmp_path)
    one.run(batch_of([np.full((4, 3), "old", object)], 4))
    batch = batch_of([np.full((1, 3), "new", object)], 4)
    one.run(batch)
    assert batch.result is not None
    assert batch.result.outputs[0].tolist() == [["new"] * 3]
    assert set(one._bindings[4].inputs()[0].ravel()) == {"new"}
    one.close()
