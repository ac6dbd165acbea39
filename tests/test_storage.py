from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.data import Preprocessing, Samples
from hasten.errors import DataError, OutputError
from signatures import floats, signature, tensor


def test_the_digest_knows_values_labels_and_preprocessing_but_not_the_source() -> None:
    base = Samples({"x": np.ones((1, 4, 5, 3), np.uint8)}, [0])
    others = [
        Samples({"y": base.arrays["x"]}, [0]),
        Samples({"x": base.arrays["x"] * 2}, [0]),
        Samples({"x": base.arrays["x"]}, [1]),
        Samples({"x": base.arrays["x"]}),
        base.with_preprocessing("x", Preprocessing((4, 5))),
    ]
    assert len({base.digest, *(other.digest for other in others)}) == 6
    assert Samples({"x": base.arrays["x"]}, [0], source="elsewhere").digest == base.digest


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(["float32", "int64", "bool", "uint8", "bfloat16"]), min_size=1, max_size=3
    ),
    st.integers(1, 5),
    st.booleans(),
    st.integers(0, 9),
)
def test_save_then_load_gives_the_same_samples(
    tmp_path_factory: pytest.TempPathFactory,
    dtypes: list[str],
    count: int,
    labelled: bool,
    seed: int,
) -> None:
    specs = [tensor(None, 2, name=f"in/{i}:0", dtype=dtype) for i, dtype in enumerate(dtypes)]
    drawn = Samples.synthetic(signature(*specs), count, seed)
    samples = Samples(drawn.arrays, np.arange(count) if labelled else None).select(
        np.arange(count)[::-1]
    )
    folder = tmp_path_factory.mktemp("samples")
    samples.save(folder)
    loaded = Samples.load(folder)
    assert loaded.digest == samples.digest
    assert loaded.source == samples.source
    loaded.check(signature(*specs))


def test_loaded_arrays_are_memory_maps_and_splitting_copies_nothing(tmp_path: Path) -> None:
    Samples({"x": floats(10, 2)}).save(tmp_path)
    _, validation = Samples.load(tmp_path).split(calibration=4, seed=0)
    store = validation._store["x"]
    assert isinstance(store.base, np.memmap)


def test_saving_keeps_preprocessing(tmp_path: Path) -> None:
    Samples(
        {"x": np.ones((2, 4, 5, 3), np.uint8)}, preprocessing={"x": Preprocessing((4, 5))}
    ).save(tmp_path)
    assert Samples.load(tmp_path).preprocessing == {"x": Preprocessing((4, 5))}


def test_loading_a_folder_without_samples_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        Samples.load(tmp_path)
    assert str(caught.value).startswith("Expected samples saved by Hasten, got FileNotFoundError")


def test_loading_a_damaged_array_is_an_error(tmp_path: Path) -> None:
    Samples({"x": floats(100, 2)}).save(tmp_path)
    array = tmp_path / "array_0.npy"
    array.write_bytes(array.read_bytes()[:200])
    with pytest.raises(DataError, match="Expected samples saved by Hasten, got ValueError"):
        Samples.load(tmp_path)


def test_saving_where_nothing_can_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Expected a folder to write samples to, got File exists"):
        Samples({"x": floats(2)}).save(tmp_path / "file")
