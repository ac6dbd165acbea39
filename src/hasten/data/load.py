"""Samples from whatever the user gave as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from numpy.typing import ArrayLike

from hasten.data.generator import read_callable
from hasten.data.image_folder import image_input, read_image_folder
from hasten.data.npz import read_npz
from hasten.data.preprocessing import Preprocessing, parse_preprocessing
from hasten.data.samples import Samples
from hasten.errors import DataError
from hasten.graph import Signature
from hasten.graph.object_path import is_object_path

__all__ = ["Source", "load_samples"]

Source: TypeAlias = str | os.PathLike[str] | Mapping[str, ArrayLike] | Samples


def load_samples(
    source: Source,
    signature: Signature,
    *,
    preprocessing: Preprocessing | str | None = None,
    scratch: Path,
    advance: Callable[[int, int], None] | None = None,
    at_most: int | None = None,
    seed: int = 0,
) -> Samples:
    """Read samples and check that a model of this signature can be fed with all of them.

    ``source`` is the path of an .npz or of an image folder, ``package.module:callable``, a dict of
    arrays with optional ``labels``, or samples. ``preprocessing`` (also as written on the command
    line) says how pixels become the model's input; with it, the array of the image input in an
    .npz, callable or dict holds raw pixels, uint8 [n, height, width, channels]. Decoded images go
    into the folder ``scratch``, and ``advance`` is told (done, total) meanwhile. Where there are
    more than ``at_most`` samples, so many are drawn with ``seed``, each class giving its share.

    Raises DataError, or OptionError for preprocessing that cannot be read.
    """
    label = "data" if isinstance(source, Mapping | Samples) else str(source)
    spec = None if preprocessing is None else image_input(signature, label)
    if isinstance(preprocessing, str):
        preprocessing = parse_preprocessing(preprocessing, spec)
    is_folder = isinstance(source, str | os.PathLike) and Path(source).is_dir()
    if is_folder:
        samples = read_image_folder(
            Path(label), signature, preprocessing, scratch, advance, at_most=at_most, seed=seed
        )
    else:
        samples = _read_arrays(source, signature)
        if spec is not None and preprocessing is not None:
            samples = samples.with_preprocessing(spec.name, preprocessing)
    samples.check(signature)
    if at_most is not None and at_most < len(samples):
        samples, _ = samples.split(calibration=at_most, seed=seed)
    return samples


def _read_arrays(source: Source, signature: Signature) -> Samples:
    """Read anything but an image folder."""
    if isinstance(source, Samples):
        return source
    if isinstance(source, Mapping):
        return Samples.from_mapping(source, signature, source="data")
    path = Path(source)
    if path.suffix == ".npz":
        return read_npz(path, signature)
    if not path.exists() and is_object_path(str(source)):
        return read_callable(str(source), signature)
    raise DataError(
        expected="an .npz, a folder of images or package.module:callable",
        got="another kind of file" if path.exists() else "no such file or folder",
        where=str(source),
    )
