from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hasten.data import Preprocessing, Samples, read_image_folder
from hasten.errors import DataError, MissingExtraError, OutputError
from hasten.graph import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("image", "float32", (None, 3, 4, 4)),), ())
RED, GREEN = (255, 0, 0), (0, 255, 0)


def save(
    path: Path,
    colour: int | tuple[int, ...] = RED,
    size: tuple[int, int] = (4, 4),
    mode: str = "RGB",
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


def read(
    folder: Path,
    preprocessing: Preprocessing | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Samples:
    scratch = folder.parent / "scratch"
    return read_image_folder(folder, SIGNATURE, preprocessing, scratch, advance)


def message_of(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folders_in_the_order_of_their_names_are_the_labels(tmp_path: Path) -> None:
    save(tmp_path / "data" / "b" / "1.png", GREEN)
    save(tmp_path / "data" / "a" / "2.png", RED)
    save(tmp_path / "data" / "a" / "1.jpg", RED)
    samples = read(tmp_path / "data")
    assert samples.labels is not None
    assert samples.labels.tolist() == [0, 0, 1]
    assert samples.arrays["image"][2, 0, 0].tolist() == list(GREEN)
    samples.check(SIGNATURE)


def test_an_empty_class_folder_keeps_its_number(tmp_path: Path) -> None:
    (tmp_path / "data" / "a").mkdir(parents=True)
    save(tmp_path / "data" / "b" / "1.png")
    labels = read(tmp_path / "data").labels
    assert labels is not None
    assert labels.tolist() == [1]


def test_a_flat_folder_has_no_labels_and_hidden_files_are_not_data(tmp_path: Path) -> None:
    save(tmp_path / "data" / "1.png")
    (tmp_path / "data" / ".DS_Store").write_text("")
    samples = read(tmp_path / "data")
    assert len(samples) == 1
    assert samples.labels is None


def test_size_and_layout_follow_from_the_input_unless_given(tmp_path: Path) -> None:
    save(tmp_path / "data" / "1.png", size=(9, 7))
    assert read(tmp_path / "data").preprocessing["image"] == Preprocessing((4, 4))
    wide = read(tmp_path / "data", Preprocessing((2, 6)))
    assert wide.arrays["image"].shape == (1, 2, 6, 3)


def test_resizing_is_bilinear_as_in_pillow(tmp_path: Path) -> None:
    path = save(tmp_path / "data" / "1.png", size=(8, 6))
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(noise).save(path)
    expected = np.asarray(Image.fromarray(noise).resize((4, 4), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(read(tmp_path / "data").arrays["image"][0], expected)


def test_pixels_are_stored_in_the_colour_order_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "data" / "1.png", RED)
    bgr = read(tmp_path / "data", Preprocessing((4, 4), colour="bgr"))
    assert bgr.arrays["image"][0, 0, 0].tolist() == [0, 0, 255]
    gray = read(tmp_path / "data", Preprocessing((4, 4), (0.0,), (1.0,), colour="gray"))
    assert gray.arrays["image"].shape == (1, 4, 4, 1)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [("L", 9, [9, 9, 9]), ("RGBA", (1, 2, 3, 4), [1, 2, 3]), ("1", 1, [255, 255, 255])],
)
def test_other_colour_modes_become_rgb(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: list[int]
) -> None:
    save(tmp_path / "data" / "1.png", colour, mode=mode)
    assert read(tmp_path / "data").arrays["image"][0, 0, 0].tolist() == expected


def test_pixels_live_on_disk_and_not_in_memory(tmp_path: Path) -> None:
    save(tmp_path / "data" / "1.png")
    samples = read(tmp_path / "data")
    assert isinstance(samples._store["image"].base, np.memmap)
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["pixels.npy"]


def test_reading_a_second_folder_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    save(tmp_path / "red" / "1.png", RED)
    save(tmp_path / "green" / "1.png", GREEN)
    red = read(tmp_path / "red")
    read(tmp_path / "green")
    assert red.arrays["image"][0, 0, 0].tolist() == list(RED)


def test_progress_is_told_image_by_image(tmp_path: Path) -> None:
    save(tmp_path / "data" / "1.png")
    save(tmp_path / "data" / "2.png")
    told: list[tuple[int, int]] = []
    read(tmp_path / "data", advance=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize("keep", [0.0, 0.5])
def test_a_damaged_image_is_named_and_nothing_half_written_stays(
    tmp_path: Path, keep: float
) -> None:
    path = save(tmp_path / "data" / "a" / "1.png", size=(64, 64))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    message = message_of(tmp_path / "data")
    assert message.startswith("Expected an image that can be decoded, got ")
    assert message.endswith(f" - at {path}")
    assert not list((tmp_path / "scratch").iterdir())


def test_an_image_of_16_bits_is_an_error_and_not_clipped(tmp_path: Path) -> None:
    path = save(tmp_path / "data" / "1.png", 40_000, mode="I;16")
    assert message_of(tmp_path / "data") == (
        f"Expected an image of 8 bits a channel, got mode I;16 - at {path}"
    )


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data"
    assert message_of(path) == f"Expected a folder of images, got no such folder - at {path}"


@pytest.mark.parametrize("inside", ["", "a"])
def test_a_folder_without_images_is_an_error(tmp_path: Path, inside: str) -> None:
    path = tmp_path / "data"
    (path / inside).mkdir(parents=True)
    assert message_of(path) == f"Expected images, got an empty folder - at {path}"


def test_a_file_of_another_kind_is_an_error_and_not_skipped(tmp_path: Path) -> None:
    save(tmp_path / "data" / "1.png")
    notes = tmp_path / "data" / "notes.txt"
    notes.write_text("")
    assert message_of(tmp_path / "data") == (
        "Expected only images (.bmp, .gif, .jpeg, .jpg, .png, .ppm, .tif, .tiff, .webp), "
        f"got another kind of file - at {notes} (move it out)"
    )


def test_a_folder_inside_a_class_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "data" / "a" / "deeper" / "1.png")
    assert "got a folder" in message_of(tmp_path / "data")


def test_images_beside_folders_are_an_error(tmp_path: Path) -> None:
    save(tmp_path / "data" / "a" / "1.png")
    save(tmp_path / "data" / "2.png")
    assert message_of(tmp_path / "data") == (
        "Expected either images or a folder for each class, "
        f"got both, such as '2.png' beside folder 'a' - at {tmp_path / 'data'}"
    )


@pytest.mark.parametrize(
    ("inputs", "got"),
    [
        ((TensorSpec("x", "float32", (None, 3)),), "x: float32[?,3]"),
        (
            tuple(TensorSpec(name, "float32", (None, 3, 4, 4)) for name in "ab"),
            "a: float32[?,3,4,4], b: float32[?,3,4,4]",
        ),
    ],
)
def test_a_model_without_one_image_input_is_an_error(
    tmp_path: Path, inputs: tuple[TensorSpec, ...], got: str
) -> None:
    with pytest.raises(DataError) as caught:
        read_image_folder(tmp_path, Signature(inputs, ()), None, tmp_path)
    assert str(caught.value) == (
        "Expected a model with one image input (float32 or uint8, 4 axes), "
        f"got {got} - at {tmp_path}"
    )


def test_without_pillow_the_install_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        "Expected the extra 'images', got no such package installed - "
        f"at image folder {tmp_path} (run: pip install 'hasten[images]')"
    )


def test_a_scratch_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    save(tmp_path / "data" / "1.png")
    (tmp_path / "scratch").write_text("")
    with pytest.raises(OutputError, match="Expected a folder to write pixels to, got File exists"):
        read(tmp_path / "data")
