from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hasten.data import Preprocessing
from hasten.data.framing import Framing, Interpolation, framed
from hasten.errors import DataError

SIZE = (24, 32)
WAYS = {
    "exact": Preprocessing(SIZE),
    "shortest": Preprocessing(SIZE, resize=40, crop=True),
    "exact, then a crop": Preprocessing(SIZE, resize=(30, 40), crop=True),
    "crop": Preprocessing(SIZE, crop=True),
    "letterbox": Preprocessing(SIZE, pad=9),
}


def bright_square(height: int, width: int, box: tuple[int, int, int, int]) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = 255
    return Image.fromarray(pixels)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from(sorted(WAYS)),
    st.integers(24, 90),
    st.integers(32, 90),
    st.data(),
)
def test_a_box_lies_where_what_it_is_around_lies(
    way: str, height: int, width: int, data: st.DataObject
) -> None:
    left, top = data.draw(st.integers(0, width - 16)), data.draw(st.integers(0, height - 16))
    box = (left, top, left + 14, top + 14)
    place = framed(WAYS[way], height, width, "image")
    picture = place.image(bright_square(height, width, box), "bilinear", 0)
    assert picture.shape == (*SIZE, 3)
    found, seen, _ = place.boxes(np.array([box], np.float64))
    bright = np.argwhere(picture[..., 0] > 127)
    if not len(bright):
        assert not seen[0] or found[0, 2] - found[0, 0] < 2 or found[0, 3] - found[0, 1] < 2
        return
    (first_row, first_column), (last_row, last_column) = bright.min(0), bright.max(0) + 1
    np.testing.assert_allclose(
        found[0], [first_column, first_row, last_column, last_row], atol=1.01
    )


@pytest.mark.parametrize(
    ("image", "way", "expected"),
    [
        # Sizes and offsets as torchvision's Resize(40) and CenterCrop((24, 32)) have them.
        ((60, 100), "shortest", ((40, 66), -8, -17)),
        ((100, 60), "shortest", ((66, 40), -21, -4)),
        # As Ultralytics' LetterBox((24, 32)) has them.
        ((60, 100), "letterbox", ((19, 32), 2, 0)),
        ((48, 32), "letterbox", ((24, 16), 0, 8)),
        ((12, 8), "letterbox", ((24, 16), 0, 8)),
        ((30, 41), "crop", ((30, 41), -3, -4)),
    ],
)
def test_sizes_and_offsets_are_those_in_use(
    image: tuple[int, int], way: str, expected: tuple[tuple[int, int], int, int]
) -> None:
    place = framed(WAYS[way], *image, "image")
    assert (place.scaled, place.top, place.left) == expected


def test_a_letterbox_is_filled_with_its_pixel() -> None:
    place = framed(WAYS["letterbox"], 24, 16, "image")
    picture = place.image(Image.new("RGB", (16, 24), (1, 2, 3)), "bilinear", 114)
    assert picture[0, 7].tolist() == [114] * 3
    assert picture[0, 8].tolist() == [1, 2, 3]
    assert picture[0, 24].tolist() == [114] * 3


@pytest.mark.parametrize("how", ["nearest", "bilinear", "bicubic"])
def test_interpolation_is_pillows(how: Interpolation) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))
    methods = {"nearest": 0, "bilinear": 2, "bicubic": 3}
    expected = np.asarray(noise.resize((32, 24), Image.Resampling(methods[how])))
    found = Framing((40, 50), (24, 32), 0, 0, SIZE).image(noise, how, 0)
    np.testing.assert_array_equal(found, expected)


def test_an_image_that_a_crop_exceeds_says_what_to_give() -> None:
    with pytest.raises(DataError) as caught:
        framed(WAYS["crop"], 20, 90, "a.png")
    assert str(caught.value) == (
        "Expected an image of at least 24x32 to crop, got 20x90 - at a.png "
        "(give resize=, the length of the shortest side before the crop)"
    )
