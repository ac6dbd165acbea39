"""Samples from whatever the user gave as data."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from hasten.data.datasets import read_callable, read_object
from hasten.data.image_folder import image_input, read_image_folder
from hasten.data.labels.files import find_file, read_alphabet, read_label_file
from hasten.data.npz import read_npz
from hasten.data.preprocessing import Preprocessing
from hasten.data.preprocessing_text import Files, described, files_in, parse_preprocessing
from hasten.data.samples import Samples
from hasten.errors import DataError
from hasten.graph import Signature, TensorSpec
from hasten.graph.object_path import is_object_path

__all__ = ["Source", "load_samples"]

#: An axis of so many is one of channels.
_CHANNELS = frozenset({1, 3, 4})

#: A path, samples, or a Python object that ``read_object`` knows.
Source: TypeAlias = Any


def load_samples(
    source: Source,
    signature: Signature,
    *,
    preprocessing: Preprocessing | str | None = None,
    scratch: Path,
    advance: Callable[[int, int], None] | None = None,
    at_most: int | None = None,
    seed: int = 0,
    labelled: bool = True,
) -> Samples:
    """Read samples and check that a model of this signature can be fed with all of them.

    ``source`` is the path of an .npz or of an image folder, ``package.module:callable``, or in
    Python a dict of arrays with optional ``labels``, an array, a DataLoader, a dataset, a list, a
    generator, a function or samples. ``preprocessing`` (also as written on the command line, where
    it may name a file of labels) says how pixels become the model's input; with it, the array of
    the image input in an .npz, callable or dict holds raw pixels, uint8 [n, height, width,
    channels]. Decoded images go into the folder ``scratch``, and ``advance`` is told (done, total)
    meanwhile. Where there are more than ``at_most`` samples, so many are drawn with ``seed``, each
    class giving its share. A file of labels is left alone unless they are ``labelled``.

    Raises DataError, or OptionError for preprocessing that cannot be read.
    """
    is_path = isinstance(source, str | os.PathLike)
    label = str(source) if is_path else "data"
    is_folder = is_path and os.path.isdir(source)
    wanted = _wanted(preprocessing, signature, label, is_folder=is_folder)
    if is_folder:
        samples = read_image_folder(
            Path(label),
            signature,
            wanted.preprocessing,
            scratch,
            advance,
            at_most=at_most,
            seed=seed,
            labels=wanted.files.labels,
            labelled=labelled,
        )
    else:
        samples = _read_arrays(source, signature, label)
        if wanted.preprocessing is not None:
            samples = samples.with_preprocessing(wanted.input, wanted.preprocessing)
        if wanted.files.labels is not None and labelled:
            path = find_file(wanted.files.labels, Path(label) if is_path else None)
            found, notes = read_label_file(path, len(samples), None, scratch)
            samples = samples.with_labels(found, notes)
    samples = _completed(samples, signature, wanted, is_folder=is_folder)
    samples.check(signature)
    if at_most is not None and at_most < len(samples):
        samples, _ = samples.split(calibration=at_most, seed=seed)
    return samples


class _Wanted(NamedTuple):
    """Preprocessing of an input as it was given, and the files named beside it."""

    text: str | None
    files: Files
    input: str = ""
    preprocessing: Preprocessing | None = None


def _wanted(
    given: Preprocessing | str | None, signature: Signature, label: str, *, is_folder: bool
) -> _Wanted:
    """Read preprocessing; that which names files alone asks for no image input."""
    if given is None:
        return _Wanted("", Files())
    if isinstance(given, Preprocessing):
        return _Wanted(None, Files(), image_input(signature, label).name, given)
    files = files_in(given)
    if any(files) and not files.rest and not is_folder:
        return _Wanted(None, files)
    spec = image_input(signature, label)
    return _Wanted(given, files, spec.name, parse_preprocessing(given, spec))


def _completed(
    samples: Samples, signature: Signature, wanted: _Wanted, *, is_folder: bool
) -> Samples:
    """Add to labels what is known beside them, and say what of preprocessing was assumed."""
    notes = [
        described(declared, wanted.text)
        for declared in samples.preprocessing.values()
        if is_folder or wanted.text
    ]
    labels = samples.ground_truth
    if labels is None:
        return samples.with_notes(notes)
    if labels.size is None and labels.kind in {"boxes", "mask"}:
        labels = replace(labels, size=_picture(samples, signature))
    if wanted.files.alphabet is not None:
        symbols = read_alphabet(find_file(wanted.files.alphabet, None))
        labels = replace(labels, alphabet=symbols)
    return samples.with_labels(labels, notes)


def _picture(samples: Samples, signature: Signature) -> tuple[int, int] | None:
    """Return (height, width) of the one image input, where that is told by samples."""
    for spec in signature.inputs:
        declared = samples.preprocessing.get(spec.name)
        if declared is not None:
            return declared.size
    images = [spec for spec in signature.inputs if len(spec.shape) == 4]  # noqa: PLR2004
    if len(images) != 1 or images[0].name not in samples.arrays:
        return None
    return _plane(images[0], samples.arrays[images[0].name].shape)


def _plane(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the two sides of images whose channels stand first or last; None if it is not told."""
    first, second, third = shape[-3:]
    channels_first, channels_last = (spec.shape[at] in _CHANNELS for at in (1, 3))
    if channels_first and not (channels_last and first not in _CHANNELS):
        return second, third
    return (first, second) if channels_last else None


def _read_arrays(source: Source, signature: Signature, label: str) -> Samples:
    """Read anything but an image folder."""
    if isinstance(source, Samples | Mapping) or not isinstance(source, str | os.PathLike):
        return read_object(source, signature, label)
    path = Path(source)
    if path.suffix == ".npz":
        return read_npz(path, signature)
    if not os.path.exists(path) and is_object_path(str(source)):
        return read_callable(str(source), signature)
    raise DataError(
        expected="an .npz, a folder of images or package.module:callable",
        got="another kind of file" if os.path.exists(path) else "no such file or folder",
        where=str(source),
    )
