from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from hasten.data import read_npz
from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("x", "float32", (None, 3)),), ())
ARRAY = np.arange(300, dtype=np.float32).reshape(100, 3)


def message_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_npz(path, SIGNATURE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_and_labels_are_read(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "val.npz", x=ARRAY, labels=np.arange(100, dtype=np.uint8))
    samples = read_npz(tmp_path / "val.npz", SIGNATURE)
    np.testing.assert_array_equal(samples.arrays["x"], ARRAY)
    assert samples.labels is not None
    assert samples.labels.dtype == np.int64
    assert not samples.preprocessing


def test_an_input_named_labels_is_an_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "val.npz", labels=ARRAY)
    signature = Signature((TensorSpec("labels", "float32", (None, 3)),), ())
    samples = read_npz(tmp_path / "val.npz", signature)
    assert samples.labels is None
    samples.check(signature)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "val.npz"
    assert message_of(path) == f"Expected an .npz file, got no such file - at {path}"


def test_a_single_array_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "val.npz"
    with path.open("wb") as file:
        np.save(file, ARRAY)
    assert message_of(path) == (
        f"Expected an .npz archive with one array per input, got a single array - at {path} "
        "(save it with numpy.savez)"
    )


@pytest.mark.parametrize("content", [b"", b"hello, world", b"PK\x03\x04 and no more"])
def test_bytes_that_are_no_archive_are_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "val.npz"
    path.write_bytes(content)
    message = message_of(path)
    assert message.startswith("Expected a whole .npz archive of plain arrays, got ")
    assert message.endswith(f" - at {path}")


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_archive_is_an_error(tmp_path: Path, keep: float) -> None:
    path = tmp_path / "val.npz"
    np.savez(path, x=ARRAY)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert message_of(path).startswith("Expected a whole .npz archive of plain arrays, got ")


def test_an_archive_with_flipped_bytes_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "val.npz"
    np.savez(path, x=ARRAY)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    assert "Bad CRC-32" in message_of(path)


def test_python_objects_are_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "val.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert "Expected plain arrays, got Python objects" in message_of(path)


def test_a_folder_named_npz_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "val.npz"
    path.mkdir()
    assert "Expected an .npz file, got a folder" in message_of(path)


def test_an_empty_archive_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "val.npz"
    np.savez(path)
    assert message_of(path) == f"Expected an array for each input, got no arrays - at {path}"
