from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from hasten.data import Preprocessing, parse_preprocessing
from hasten.data.preprocessing import Colour
from hasten.errors import OptionError
from hasten.graph import TensorSpec

NCHW = TensorSpec("image", "float32", (None, 3, 32, 48))


def channels(colour: str) -> int:
    return 1 if colour == "gray" else 3


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    colour: Colour = draw(st.sampled_from(["rgb", "bgr", "gray"]))
    count = channels(colour)
    means = st.floats(-2, 2, width=32)
    stds = st.floats(0.125, 4, width=32)
    return Preprocessing(
        size=draw(st.tuples(st.integers(1, 4), st.integers(1, 4))),
        mean=draw(st.tuples(*[means] * count)),
        std=draw(st.tuples(*[stds] * count)),
        layout=draw(st.sampled_from(["nchw", "nhwc"])),
        colour=colour,
    )


@settings(max_examples=40, deadline=None)
@given(st.data(), preprocessings())
def test_apply_equals_the_formula(data: st.DataObject, preprocessing: Preprocessing) -> None:
    shape = (data.draw(st.integers(1, 3)), *preprocessing.pixel_shape)
    pixels = data.draw(npst.arrays(np.uint8, shape))
    expected = (pixels.astype(np.float64) / 255 - preprocessing.mean) / preprocessing.std
    if preprocessing.layout == "nchw":
        expected = expected.transpose(0, 3, 1, 2)
    found = preprocessing.apply(pixels)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert found.shape[1:] == preprocessing.input_shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_apply_leaves_the_pixels_as_they_were() -> None:
    pixels = np.full((1, 2, 2, 3), 7, np.uint8)
    Preprocessing((2, 2), layout="nhwc").apply(pixels)
    assert (pixels == 7).all()


@given(preprocessings())
def test_it_survives_a_round_trip_through_json(preprocessing: Preprocessing) -> None:
    text = msgspec.json.encode(preprocessing)
    assert msgspec.json.decode(text, type=Preprocessing) == preprocessing


def test_every_key_of_the_command_line_is_read() -> None:
    text = "size=224x192,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,layout=nhwc,colour=bgr"
    assert parse_preprocessing(text) == Preprocessing(
        (224, 192), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "nhwc", "bgr"
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (NCHW, Preprocessing((32, 48))),
        (TensorSpec("x", "float32", (1, 32, 48, 3)), Preprocessing((32, 48), layout="nhwc")),
        (TensorSpec("x", "uint8", (None, 32, 48, 3)), Preprocessing((32, 48), layout="nhwc")),
        (
            TensorSpec("x", "float32", (None, 1, 8, 8)),
            Preprocessing((8, 8), (0.0,), (1.0,), "nchw", "gray"),
        ),
    ],
)
def test_what_is_left_out_follows_from_the_input(spec: TensorSpec, expected: Preprocessing) -> None:
    assert parse_preprocessing("", spec) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "sizes=2x2",
            "Expected key=value with a key of size, mean, std, layout, colour, resize, crop, "
            "crop_pct, pad, interpolation, labels, alphabet, got 'sizes=2x2' - "
            "at --preprocess (did you mean 'size'?)",
        ),
        (
            "size",
            "Expected key=value with a key of size, mean, std, layout, colour, resize, crop, "
            "crop_pct, pad, interpolation, labels, alphabet, got 'size' - at --preprocess",
        ),
        ("size=2x2,size=3x3", "Expected 'size' once, got size twice - at --preprocess"),
        (
            "size=224",
            "Expected HEIGHTxWIDTH such as 224x224, got '224' - at --preprocess size",
        ),
        ("size=0x2", "Expected a positive height and width, got 0x2 - at size"),
        (
            "size=2x2,mean=a:b:c",
            "Expected numbers separated by ':' such as 0.485:0.456:0.406, got 'a:b:c' - "
            "at --preprocess",
        ),
        ("size=2x2,mean=0.5:0.5", "Expected 3 values for colour rgb, got 2 - at mean"),
        ("size=2x2,std=1:1", "Expected 3 values for colour rgb, got 2 - at std"),
        (
            "size=2x2,std=1:0:1",
            "Expected values other than 0, got (1.0, 0.0, 1.0) - at std",
        ),
        ("size=2x2,mean=nan:0:0", "Expected finite numbers, got (nan, 0.0, 0.0) - at mean"),
        ("size=2x2,layout=chw", "Expected nchw or nhwc, got 'chw' - at layout"),
        ("size=2x2,colour=grey", "Expected rgb or bgr or gray, got 'grey' - at colour"),
        ("", "Expected size=HEIGHTxWIDTH, got no size - at --preprocess"),
        (
            "size=2x2,interpolation=linear",
            "Expected nearest or bilinear or bicubic, got 'linear' - at interpolation",
        ),
        ("size=2x2,pad=grey", "Expected a pixel from 0 to 255 such as 114, got 'grey' - at"),
        ("size=2x2,pad=300", "Expected a pixel from 0 to 255, got 300 - at pad"),
        ("size=2x2,pad=1,crop=2", "Expected pad, or resize and crop, got both - at pad"),
        ("crop=2,size=3x3", "Expected crop of the size 3x3, got 2x2 - at --preprocess"),
        ("resize=2x2,size=3x3", "Expected resize of the size 3x3, got 2x2 - at --preprocess"),
        ("resize=2,crop=3", "Expected a resize to no less than the size 3x3, got 2 - at resize"),
        ("crop=2,crop_pct=0", "Expected a share above 0, at most 1, got 0 - at --preprocess crop"),
        ("crop=2,crop_pct=1,resize=2", "Expected crop_pct or resize, got both - at --preprocess"),
    ],
)
def test_text_that_cannot_be_read_says_why(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_preprocessing(text)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("resize=256,crop=224", Preprocessing((224, 224), resize=256, crop=True)),
        ("crop_pct=0.875,crop=224", Preprocessing((224, 224), resize=256, crop=True)),
        ("resize=40", Preprocessing((32, 48), resize=40, crop=True)),
        ("resize=32x48", Preprocessing((32, 48))),
        ("resize=64x64,crop=32x48", Preprocessing((32, 48), resize=(64, 64), crop=True)),
        ("pad=114", Preprocessing((32, 48), pad=114)),
        ("interpolation=bicubic", Preprocessing((32, 48), interpolation="bicubic")),
        ("labels=a/b.json,alphabet=c.txt", Preprocessing((32, 48))),
    ],
)
def test_what_becomes_of_an_image_is_written_as_in_torchvision_and_timm(
    text: str, expected: Preprocessing
) -> None:
    if text == "resize=40":
        with pytest.raises(OptionError, match="resize"):
            Preprocessing((32, 48), resize=20, crop=True)
    assert parse_preprocessing(text, NCHW) == expected


def test_resize_alone_leaves_open_what_it_is_for() -> None:
    with pytest.raises(OptionError, match="Expected crop beside resize"):
        Preprocessing((4, 4), resize=8)


def test_a_free_size_has_to_be_given() -> None:
    with pytest.raises(OptionError) as caught:
        parse_preprocessing("", TensorSpec("x", "float32", (None, 3, None, None)))
    assert str(caught.value) == (
        "Expected size=HEIGHTxWIDTH, got an input of free size, x: float32[?,3,?,?] - "
        "at --preprocess"
    )
