"""Files of one operator: unary, binary, with constants, convolutions, slices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tflite_operators import File

__all__ = [
    "binary",
    "convolution",
    "floats",
    "several",
    "sliced",
    "transposed",
    "unary",
    "with_constants",
]

RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.normal(size=shape).astype(np.float32)


def unary(
    kind: str, table: str = "", shape: tuple[int, ...] = (2, 3, 4), **options: Any
) -> Callable[[], bytes]:
    def build() -> bytes:
        file = File()
        x, y = file.input("x", shape), file.tensor("y", shape)
        file.operator(kind, [x], [y], table, options)
        return file.output(y)

    return build


def with_constants(
    kind: str,
    shape: tuple[int, ...],
    constants: list[Any],
    out: tuple[int, ...],
    table: str = "",
    *,
    dtypes: tuple[str, str] = ("float32", "float32"),
    first: bool = True,
    **options: Any,
) -> Callable[[], bytes]:
    """An operator of one computed input beside constants: int32 where they are whole numbers."""

    def build() -> bytes:
        file = File()
        x = file.input("x", shape, dtypes[0])
        held = [
            file.constant(value, "int32" if np.asarray(value).dtype.kind == "i" else "float32")
            for value in constants
        ]
        y = file.tensor("y", out, dtypes[1])
        file.operator(kind, [x, *held] if first else [*held, x], [y], table, options)
        return file.output(y)

    return build


def binary(
    kind: str,
    table: str = "",
    dtypes: tuple[str, str] = ("float32", "float32"),
    shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((2, 3, 4), (3, 1)),
    **options: Any,
) -> Callable[[], bytes]:
    def build() -> bytes:
        file = File()
        x, z = file.input("x", shapes[0], dtypes[0]), file.input("z", shapes[1], dtypes[0])
        y = file.tensor("y", np.broadcast_shapes(*shapes), dtypes[1])
        file.operator(kind, [x, z], [y], table, options)
        return file.output(y)

    return build


def several(
    kind: str,
    data: tuple[int, ...],
    outs: list[tuple[int, ...]],
    table: str,
    *,
    after: list[Any],
    before: list[Any],
    dtypes: tuple[str, ...] = (),
    **options: Any,
) -> Callable[[], bytes]:
    def build() -> bytes:
        file = File()
        first = [file.constant(value, "int32") for value in before]
        x = file.input("x", data)
        last = [file.constant(value, "int32") for value in after]
        ys = [
            file.tensor(f"y{at}", out, (dtypes or ("float32",) * len(outs))[at])
            for at, out in enumerate(outs)
        ]
        file.operator(kind, [*first, x, *last], ys, table, options)
        return file.output(*ys)

    return build


def convolution(
    kind: str,
    weights: tuple[int, ...],
    out: tuple[int, ...],
    table: str,
    shape: tuple[int, ...] = (1, 9, 8, 4),
    **options: Any,
) -> Callable[[], bytes]:
    def build() -> bytes:
        file = File()
        x = file.input("x", shape)
        w, b = file.constant(floats(*weights)), file.constant(floats(out[-1]))
        y = file.tensor("y", out)
        file.operator(kind, [x, w, b], [y], table, options)
        return file.output(y)

    return build


def transposed(padding: int, out: tuple[int, ...], kernel: int, stride: int) -> Callable[[], bytes]:
    def build() -> bytes:
        file = File()
        shape = file.constant(list(out), "int32")
        w, x = file.constant(floats(out[-1], kernel, kernel, 4)), file.input("x", (1, 5, 4, 4))
        y = file.tensor("y", out)
        options = {"padding": padding, "strideH": stride, "strideW": stride}
        file.operator("TRANSPOSE_CONV", [shape, w, x], [y], "TransposeConvOptions", options)
        return file.output(y)

    return build


def sliced(
    out: tuple[int, ...], begin: list[int], end: list[int], step: list[int], **masks: int
) -> Callable[[], bytes]:
    every: dict[str, Any] = dict.fromkeys(
        ("beginMask", "endMask", "ellipsisMask", "newAxisMask", "shrinkAxisMask"), 0
    )
    return with_constants(
        "STRIDED_SLICE",
        (4, 5, 6),
        [begin, end, step],
        out,
        "StridedSliceOptions",
        **{**every, **masks},
    )
