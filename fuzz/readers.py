"""By target: the seeds, the words of the format, and what reads an input from a file."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fuzz import seeds

__all__ = ["READERS", "Reader"]


class Reader(NamedTuple):
    """What reads files of one kind; ``name`` is the file's."""

    name: str
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...]
    read: Callable[[Path], object]


def _model(path: Path) -> object:
    from hasten.graph import load

    model = load(path, scratch=path.parent)
    return model.rows, model.digest


def _samples(path: Path) -> object:
    from hasten.data import load_samples
    from hasten.graph import Signature, TensorSpec

    signature = Signature((TensorSpec("x", "float32", (None, 6)),), ())
    samples = load_samples(path, signature, scratch=path.parent)
    samples.check(signature)
    return samples


def _recipe(path: Path) -> object:
    from hasten.tune.recipe import read_recipe

    return read_recipe(path)


def _config(path: Path) -> object:
    from hasten.serve.repository.config_pbtxt import read_config

    return read_config(path)


def _bundle(path: Path) -> object:
    """Open a bundle whose bundle.json this is, beside the model that it was written for."""
    from hasten.serve.repository import find_models

    folder = path.parent / "net.hasten"
    (folder / "1").mkdir(parents=True, exist_ok=True)
    (folder / "1" / "model.onnx").write_bytes(seeds.onnx_seeds()[0])
    shutil.copyfile(path, folder / "bundle.json")
    return [place.open() for place in find_models(folder).places.values()]


READERS: dict[str, Reader] = {
    "onnx": Reader(
        "net.onnx",
        seeds.onnx_seeds,
        (
            b"Loop",
            b"If",
            b"Scan",
            b"ConstantOfShape",
            b"Reshape",
            b"\xff\xff\xff\xff\x0f",
            b"x",
            b"w",
        ),
        _model,
    ),
    "tflite": Reader("net.tflite", seeds.tflite_seeds, (b"TFL3", b"\0\0\0\0", b"\xff" * 4), _model),
    "pt2": Reader(
        "net.pt2",
        seeds.pt2_seeds,
        (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"9**9**9", b'"as_int"', b"[", b"{"),
        _model,
    ),
    "npz": Reader(
        "data.npz",
        seeds.npz_seeds,
        (
            b"PK\x03\x04",
            b"PK\x01\x02",
            b"PK\x05\x06",
            b"|O8",
            b"<f8",
            b"(5, 6)",
            b"(" * 40,
            b"9" * 30,
        ),
        _samples,
    ),
    "toml": Reader(
        "recipe.toml",
        seeds.recipe_seeds,
        (b"[[steps]]\n", b"a." * 500, b'step = "', b"[" * 300, b"9" * 400, b"\xff", b"=", b"\n"),
        _recipe,
    ),
    "bundle": Reader(
        "bundle.json",
        seeds.bundle_seeds,
        (b'"delegate":"x.so",', b"../", b"null", b"1e999", b"-1", b"[" * 400, b'"threads":99999,'),
        _bundle,
    ),
    "config": Reader(
        "config.pbtxt",
        seeds.config_seeds,
        (b"{", b"}", b"[", b"]", b"dims: [ -1 ]", b"99999999999", b'name: "../x"', b"\xff"),
        _config,
    ),
}
