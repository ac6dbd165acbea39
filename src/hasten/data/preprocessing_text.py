"""Preprocessing as it is written: ``key=value,...``, and what is assumed where keys lack."""

from __future__ import annotations

import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

from hasten.data.preprocessing import CHANNELS, Colour, Layout, Preprocessing, require_choice
from hasten.errors import OptionError
from hasten.graph import TensorSpec

__all__ = ["Files", "described", "files_in", "parse_preprocessing"]

_WHERE = "--preprocess"
_SIZE = re.compile(r"(\d+)x(\d+)")
_IMAGE_RANK = 4


class Files(NamedTuple):
    """The files that are named beside preprocessing: of labels, and of the symbols of texts.

    ``rest`` says whether anything else is named.
    """

    labels: str | None = None
    alphabet: str | None = None
    rest: bool = False


def files_in(text: str) -> Files:
    """Return the files that the text names.

    >>> files_in("labels=instances.json,pad=114")
    Files(labels='instances.json', alphabet=None, rest=True)
    """
    words = _words(text)
    labels, alphabet = words.pop("labels", None), words.pop("alphabet", None)
    return Files(labels, alphabet, bool(words))


def parse_preprocessing(text: str, spec: TensorSpec | None = None) -> Preprocessing:
    """Read ``size=HxW,mean=A:B:C,std=A:B:C,layout=nchw|nhwc,colour=rgb|bgr|gray``.

    ``resize=S`` is the length of the shortest side before ``crop=HxW`` takes the centre (which is
    of the input's size where it is not given), ``crop_pct`` says the same as timm does,
    ``resize=HxW`` is exact, ``pad=114`` a letterbox, ``interpolation`` nearest, bilinear or
    bicubic. ``labels`` and ``alphabet`` name files, see ``files_in``. Every key may be left out:
    size, layout and colour then follow from ``spec``, the model's input, mean is 0 and std is 1;
    one value stands for all channels. Raises OptionError for anything that cannot be read.

    >>> parse_preprocessing("size=32x48,mean=0.5,std=0.25").mean
    (0.5, 0.5, 0.5)
    >>> parse_preprocessing("resize=256,crop=224").size
    (224, 224)
    """
    words = _words(text)
    layout = words.get("layout") or _layout_of(spec)
    colour = words.get("colour") or _colour_of(spec, layout)
    require_choice("layout", layout, ("nchw", "nhwc"))
    require_choice("colour", colour, tuple(CHANNELS))
    mean, std = words.get("mean", (0.0,)), words.get("std", (1.0,))
    channels = CHANNELS[colour]
    resize, crop = words.get("resize"), "crop" in words or "crop_pct" in words
    if isinstance(resize, tuple) and not crop:  # exact, and then nothing is left to crop
        words.setdefault("size", resize)
        _require_alike("resize", resize, words["size"])
        resize = None
    size = words.get("crop") or words.get("size") or _size_of(spec, layout)
    _require_alike("crop", size, words.get("size", size))
    if "crop_pct" in words:
        resize = _before_crop(words["crop_pct"], size, resize)
    return Preprocessing(
        size=size,
        mean=mean * channels if len(mean) == 1 else mean,
        std=std * channels if len(std) == 1 else std,
        layout=layout,
        colour=colour,
        resize=resize,
        crop=crop or resize is not None,
        pad=words.get("pad"),
        interpolation=words.get("interpolation", "bilinear"),
    )


def described(preprocessing: Preprocessing, text: str | None) -> str:
    """Say what is done to images, and what of it was assumed, for people.

    >>> described(Preprocessing((2, 3)), "")
    'preprocessing: resized to 2x3 (bilinear), rgb, nchw; no mean and std were given: pixels / 255'
    """
    size = "x".join(map(str, preprocessing.size))
    done = f"resized to {size}"
    if preprocessing.pad is not None:
        done = f"resized to fit in {size}, the rest filled with {preprocessing.pad}"
    elif preprocessing.crop:
        resize = preprocessing.resize
        to = (
            "x".join(map(str, resize)) if isinstance(resize, tuple) else f"a short side of {resize}"
        )
        done = f"the centre of {size} taken"
        done = done if resize is None else f"resized to {to}, {done}"
    how = f"{done} ({preprocessing.interpolation}), {preprocessing.colour}, {preprocessing.layout}"
    given = set() if text is None else set(_words(text))
    missing = [key for key in ("mean", "std") if key not in given]
    if text is None or not missing:
        return f"preprocessing: {how}"
    what = (
        "pixels / 255" if len(missing) > 1 else ("mean is 0" if "mean" in missing else "std is 1")
    )
    return f"preprocessing: {how}; no {' and '.join(missing)} were given: {what}"


def _before_crop(share: float, size: tuple[int, int], resize: object) -> int:
    """Return the shortest side of which the crop is this share, as timm computes it."""
    if resize is not None:
        raise OptionError(expected="crop_pct or resize", got="both", where=_WHERE)
    if not 0 < share <= 1:
        raise OptionError(
            expected="a share above 0, at most 1", got=f"{share:g}", where=f"{_WHERE} crop_pct"
        )
    return int(min(size) / share)


def _require_alike(key: str, one: tuple[int, int], size: tuple[int, int]) -> None:
    if one != size:
        raise OptionError(
            expected=f"{key} of the size {size[0]}x{size[1]}",
            got=f"{one[0]}x{one[1]}",
            where=_WHERE,
        )


def _words(text: str) -> dict[str, Any]:
    """Read ``key=value,...`` with each value as what its key says."""
    words: dict[str, Any] = {}
    for word in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = word.partition("=")
        if key not in _READERS or not equals:
            near = get_close_matches(key, _READERS, n=1)
            raise OptionError(
                expected=f"key=value with a key of {', '.join(_READERS)}",
                got=repr(word),
                where=_WHERE,
                hint=f"did you mean '{near[0]}'?" if near and near[0] != key else "",
            )
        if key in words:
            raise OptionError(expected=f"'{key}' once", got=f"{key} twice", where=_WHERE)
        words[key] = _READERS[key](value)
    return words


def _read_size(text: str) -> tuple[int, int]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise OptionError(
            expected="HEIGHTxWIDTH such as 224x224", got=repr(text), where=f"{_WHERE} size"
        )
    return int(match[1]), int(match[2])


def _read_numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in text.split(":"))
    except ValueError:
        raise OptionError(
            expected="numbers separated by ':' such as 0.485:0.456:0.406",
            got=repr(text),
            where=_WHERE,
        ) from None


def _read_side(text: str) -> tuple[int, int] | int:
    return int(text) if text.isdecimal() else _read_size(text)


def _read_square(text: str) -> tuple[int, int]:
    side = _read_side(text)
    return side if isinstance(side, tuple) else (side, side)


def _read_pixel(text: str) -> int:
    if not text.isdecimal():
        raise OptionError(
            expected="a pixel from 0 to 255 such as 114", got=repr(text), where=f"{_WHERE} pad"
        )
    return int(text)


def _read_share(text: str) -> float:
    return _read_numbers(text)[0]


_READERS: dict[str, Callable[[str], object]] = {
    "size": _read_size,
    "mean": _read_numbers,
    "std": _read_numbers,
    "layout": str,
    "colour": str,
    "resize": _read_side,
    "crop": _read_square,
    "crop_pct": _read_share,
    "pad": _read_pixel,
    "interpolation": str,
    "labels": str,
    "alphabet": str,
}


def _layout_of(spec: TensorSpec | None) -> Layout:
    """Where the input has 1 or 3 channels; raw pixels (uint8) always come channels last."""
    if spec is None or len(spec.shape) != _IMAGE_RANK:
        return "nchw"
    first_is_channels = spec.shape[1] in (1, 3, None) and spec.dtype != "uint8"
    return "nchw" if first_is_channels or spec.shape[3] not in (1, 3) else "nhwc"


def _colour_of(spec: TensorSpec | None, layout: str) -> Colour:
    if spec is None or len(spec.shape) != _IMAGE_RANK:
        return "rgb"
    return "gray" if spec.shape[1 if layout == "nchw" else 3] == 1 else "rgb"


def _size_of(spec: TensorSpec | None, layout: str) -> tuple[int, int]:
    if spec is not None and len(spec.shape) == _IMAGE_RANK:
        height, width = spec.shape[2:] if layout == "nchw" else spec.shape[1:3]
        if height is not None and width is not None:
            return height, width
    raise OptionError(
        expected="size=HEIGHTxWIDTH",
        got="no size" if spec is None else f"an input of free size, {spec}",
        where=_WHERE,
    )
