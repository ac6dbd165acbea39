from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hasten.data import Preprocessing, Samples, load_samples
from hasten.errors import DataError, OptionError
from hasten.graph import Signature, TensorSpec

VECTOR = Signature((TensorSpec("x", "float32", (None, 2)),), ())
IMAGE = Signature((TensorSpec("image", "float32", (None, 3, 4, 4)),), ())
ARRAY = np.arange(6, dtype=np.float32).reshape(3, 2)


def test_an_npz_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", x=ARRAY)
    assert len(load_samples(tmp_path / "val.npz", VECTOR, scratch=tmp_path)) == 3


def test_a_folder_of_images_is_read(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "data" / "1.png")
    samples = load_samples(
        str(tmp_path / "data"), IMAGE, preprocessing="std=2:2:2", scratch=tmp_path / "scratch"
    )
    assert samples.preprocessing == {"image": Preprocessing((4, 4), std=(2.0, 2.0, 2.0))}


def test_a_callable_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "import numpy as np\ndef make():\n    yield {'x': np.ones((4, 2), np.float32)}\n"
    (tmp_path / "source_of_a_user.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert len(load_samples("source_of_a_user:make", VECTOR, scratch=tmp_path)) == 4


def test_a_dict_of_arrays_is_taken(tmp_path: Path) -> None:
    samples = load_samples({"x": ARRAY, "labels": [0, 1, 2]}, VECTOR, scratch=tmp_path)
    assert samples.labels is not None


def test_samples_are_taken_as_they_are(tmp_path: Path) -> None:
    samples = Samples({"x": ARRAY})
    assert load_samples(samples, VECTOR, scratch=tmp_path) is samples


def test_raw_pixels_in_a_dict_are_preprocessed(tmp_path: Path) -> None:
    pixels = np.ones((1, 4, 4, 3), np.uint8)
    samples = load_samples({"image": pixels}, IMAGE, preprocessing="", scratch=tmp_path)
    assert samples.feed(IMAGE, [0])["image"].dtype == np.float32


def test_samples_are_checked_against_the_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", x=ARRAY.astype(np.float64))
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path / "val.npz", VECTOR, scratch=tmp_path)
    assert str(caught.value) == (
        f"Expected float32, got float64 - at {tmp_path / 'val.npz'}: x "
        "(cast it with array.astype('float32'))"
    )


@pytest.mark.parametrize("name", ["nothing", "nothing.csv"])
def test_a_missing_path_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path / name, VECTOR, scratch=tmp_path)
    assert str(caught.value) == (
        "Expected an .npz, a folder of images or package.module:callable, "
        f"got no such file or folder - at {tmp_path / name}"
    )


def test_another_kind_of_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "val.csv").write_text("1,2\n")
    with pytest.raises(DataError, match="got another kind of file"):
        load_samples(tmp_path / "val.csv", VECTOR, scratch=tmp_path)


def test_preprocessing_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="Expected HEIGHTxWIDTH"):
        load_samples({"image": ARRAY}, IMAGE, preprocessing="size=9", scratch=tmp_path)


def test_preprocessing_for_a_model_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Expected a model with one image input"):
        load_samples({"x": ARRAY}, VECTOR, preprocessing="size=9x9", scratch=tmp_path)


def test_values_that_are_no_array_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Expected an array, got ValueError: .* - at data: x"):
        load_samples({"x": [[1.0], [2.0, 3.0]]}, VECTOR, scratch=tmp_path)


@pytest.mark.parametrize(
    ("shape", "array", "size"),
    [
        ((None, 3, 8, 12), (2, 3, 8, 12), (8, 12)),
        ((None, 8, 12, 3), (2, 8, 12, 3), (8, 12)),
        ((None, 1, 3, 12), (2, 1, 3, 12), (3, 12)),
        ((None, 16, 8, 12), (2, 16, 8, 12), None),
    ],
)
def test_boxes_and_masks_of_arrays_are_of_the_picture_that_they_hold(
    shape: tuple[int | None, ...],
    array: tuple[int, ...],
    size: tuple[int, int] | None,
    tmp_path: Path,
) -> None:
    boxes = [{"boxes": [[0, 0, 2, 2]], "classes": [0]}] * 2
    samples = load_samples(
        {"image": np.zeros(array, np.float32), "labels": boxes},
        Signature((TensorSpec("image", "float32", shape),), ()),
        scratch=tmp_path,
    )
    assert samples.ground_truth is not None
    assert samples.ground_truth.size == size
