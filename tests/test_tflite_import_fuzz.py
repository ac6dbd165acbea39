"""Hostile files: whatever is done to the bytes, they are read, refused or called damaged."""

from __future__ import annotations

import random
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from hasten.errors import RefusedError
from hasten.graph.tflite import Damaged, import_program, read_program
from hasten.runtimes.litert.lowering import lower_graph
from nets import conv_net
from tflite_models import add_model
from tflite_operators import File

FILES = 10_000

#: Numbers that sizes, offsets and indices overflow with.
EXTREMES = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    0x40000001,
)


def tiny_float() -> bytes:
    """A convolution, a pool, a shape change and a layer, on 4 x 4 pixels."""
    file = File()
    x = file.input("x", (1, 4, 4, 2), free=True)
    weights, bias = file.constant(np.ones((3, 2, 2, 2))), file.constant(np.ones(3))
    conv, pooled = file.tensor("conv", (1, 4, 4, 3)), file.tensor("pooled", (1, 3))
    options = {"padding": 0, "strideH": 1, "strideW": 1, "fusedActivationFunction": 3}
    file.operator("CONV_2D", [x, weights, bias], [conv], "Conv2DOptions", options)
    axes = file.constant([1, 2], "int32")
    file.operator("MEAN", [conv, axes], [pooled], "ReducerOptions", {"keepDims": False})
    shape, flat = file.constant([-1, 3], "int32"), file.tensor("flat", (1, 3))
    file.operator("RESHAPE", [pooled, shape], [flat], "ReshapeOptions", {"newShape": [-1, 3]})
    y = file.tensor("y", (1, 2))
    layer = file.constant(np.ones((2, 3)))
    file.operator("FULLY_CONNECTED", [flat, layer], [y], "FullyConnectedOptions")
    return file.output(y)


def tiny_int8() -> bytes:
    """A depthwise convolution with a scale per channel, a sum and a slice, in int8."""
    file = File()
    scale: dict[str, Any] = {"dtype": "int8", "scale": [0.5], "zero_point": [3]}
    x = file.input("x", (1, 3, 3, 2), **scale)
    weights = file.constant(np.ones((1, 2, 2, 2)), "int8", scale=[0.1, 0.2], axis=3)
    bias = file.constant([1, 2], "int32", scale=[0.05, 0.1])
    conv, total = (
        file.tensor("conv", (1, 3, 3, 2), **scale),
        file.tensor("sum", (1, 3, 3, 2), **scale),
    )
    options = {"padding": 0, "strideH": 1, "strideW": 1, "depthMultiplier": 1}
    file.operator(
        "DEPTHWISE_CONV_2D", [x, weights, bias], [conv], "DepthwiseConv2DOptions", options
    )
    file.operator("ADD", [conv, x], [total], "AddOptions")
    begin, size = file.constant([0, 0, 0, 0], "int32"), file.constant([1, 2, 2, 2], "int32")
    y = file.tensor("y", (1, 2, 2, 2), **scale)
    file.operator("SLICE", [total, begin, size], [y])
    return file.output(y)


def seeds() -> list[bytes]:
    return [tiny_float(), tiny_int8(), add_model([1, 4], signature=[-1, 4])]


def flip(data: bytearray, dice: random.Random, other: bytes) -> None:
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)


def overwrite(data: bytearray, dice: random.Random, other: bytes) -> None:
    for _ in range(dice.randint(1, 6)):
        data[dice.randrange(len(data))] = dice.randrange(256)


def truncate(data: bytearray, dice: random.Random, other: bytes) -> None:
    del data[dice.randrange(len(data)) :]


def splice(data: bytearray, dice: random.Random, other: bytes) -> None:
    at, length = dice.randrange(len(other)), dice.randint(1, 64)
    to = dice.randrange(len(data))
    data[to : to + length] = other[at : at + length]


def edit_number(data: bytearray, dice: random.Random, other: bytes) -> None:
    """An aligned word, as offsets, sizes, indices and lengths of vectors are."""
    for _ in range(dice.randint(1, 2)):
        at = 4 * dice.randrange(len(data) // 4)
        number = dice.choice(EXTREMES) if dice.random() < 0.7 else dice.randrange(len(data))
        struct.pack_into("<I", data, at, number)


def shift_number(data: bytearray, dice: random.Random, other: bytes) -> None:
    """An offset that leads a little further: into the middle of something else."""
    at = 4 * dice.randrange(len(data) // 4)
    (number,) = struct.unpack_from("<I", data, at)
    struct.pack_into("<I", data, at, (number + 4 * dice.randint(-8, 8)) % 2**32)


MUTATIONS: list[Callable[[bytearray, random.Random, bytes], None]] = [
    flip, overwrite, truncate, splice, edit_number, shift_number,
]  # fmt: skip


def outcome(data: bytes) -> str:
    try:
        import_program(read_program(data), "net", len(data))
    except Damaged as damage:
        return _in_one_line("damaged", damage)
    except RefusedError as refused:
        return _in_one_line("refused", refused)
    return "imported"


def _in_one_line(word: str, error: Exception) -> str:
    assert "\n" not in str(error)
    return word


def test_ten_thousand_mutated_files_are_imported_refused_or_called_damaged() -> None:
    dice = random.Random(3)  # noqa: S311 - what is drawn has to be the same again
    originals = seeds()
    found: Counter[str] = Counter()
    for _ in range(FILES):
        data = bytearray(dice.choice(originals))
        dice.choice(MUTATIONS)(data, dice, dice.choice(originals))
        found[outcome(bytes(data))] += 1
    assert found.total() == FILES
    assert min(found["damaged"], found["refused"], found["imported"]) > FILES // 100


def test_mutated_files_ask_for_little_memory() -> None:
    import tracemalloc

    dice = random.Random(4)  # noqa: S311 - the same
    originals = seeds()
    tracemalloc.start()
    for _ in range(300):
        data = bytearray(dice.choice(originals))
        dice.choice([edit_number, shift_number])(data, dice, dice.choice(originals))
        outcome(bytes(data))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50e6


@pytest.mark.parametrize("content", [*seeds(), lower_graph(conv_net()).content])
def test_every_prefix_of_a_file_is_called_damaged_or_understood(content: bytes) -> None:
    step = max(1, len(content) // 200)
    for end in range(0, len(content), step):
        assert outcome(content[:end]) in {"damaged", "refused", "imported"}


def test_the_files_that_are_mutated_are_imported_whole() -> None:
    assert [outcome(data) for data in seeds()] == ["imported"] * 3
