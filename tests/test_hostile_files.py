"""A few dozen hostile files in the process of the tests: one line each, and nothing else.

``benchmarks/hostile_files.py`` gives many more to processes of their own, and measures them.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import strange_files
from command_line import hasten
from hasten.api import load
from hasten.bundle import Bundle
from hasten.data.npz import read_npz
from hasten.errors import InputError
from hasten.graph import Signature, TensorSpec
from hasten.tune.recipe import read_recipe

SIGNATURE = Signature((TensorSpec("x", "float32", (None, 4)),), ())
#: Read in less than this; most of it is importing torch for the first .pt2.
LIMIT_S = 10.0


def read(path: Path, scratch: Path) -> None:
    """Read a file as the verbs do."""
    if path.suffix == ".npz":
        read_npz(path, SIGNATURE)
    elif path.suffix == ".toml":
        read_recipe(path)
    elif os.path.isdir(path):
        Bundle.open(path)
    else:
        load(str(path), scratch=scratch)


def complaint(path: Path, scratch: Path) -> str:
    """Return what is said of a file that cannot be read; nothing where it can."""
    try:
        read(path, scratch)
    except InputError as error:
        return str(error)
    return ""


def test_each_kind_that_is_known_is_refused_or_read_at_once(tmp_path: Path) -> None:
    harmless = []
    for path in strange_files.handmade(tmp_path):
        begin = time.process_time()
        if (said := complaint(path, tmp_path)) == "":
            harmless.append(path.name)
        assert "\n" not in said, path
        assert time.process_time() - begin < LIMIT_S, path
    # To read these takes nothing: what they would take is limited where they are run.
    assert set(harmless) == {"endless_loop.onnx", "filled.onnx", "filled_more.onnx", "large.onnx"}


@pytest.mark.parametrize("seed", range(3))
def test_damaged_files_are_read_or_refused_in_one_line(seed: int, tmp_path: Path) -> None:
    for path in strange_files.mutated(tmp_path, 60, seed):
        assert "\n" not in complaint(path, tmp_path), path


def test_a_recipe_of_a_hundred_thousand_parts_is_one_line_of_a_verb(
    net: Path, data: Path, place: Path
) -> None:
    (place / "r.toml").write_text(".".join("a" * 100_000) + " = 1\n")
    done = hasten("optimize", net, "--data", data, "--recipe", "r.toml", "--out", "out")
    assert "keys of at most 64 parts" in done.complaint
