"""How each ONNX operator is said in TFLite: one small entry a operator, in files by kind."""

from __future__ import annotations

from hasten.runtimes.litert.lowering.operators import (
    activation,
    bitwise,
    comparison,
    convolution,
    division,
    einsum,
    elementwise,
    indexing,
    matmul,
    pad,
    pooling,
    quantize,
    ranges,
    reduction,
    scatter,
    search,
    selection,
    shape,
    slicing,
    trigonometry,
    unary,
)
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS"]

#: Every operator by its ONNX name. To add one, write its function and a line in its file's table.
OPERATORS: dict[str, Lowering] = {
    **activation.OPERATORS,
    **bitwise.OPERATORS,
    **comparison.OPERATORS,
    **convolution.OPERATORS,
    **division.OPERATORS,
    **einsum.OPERATORS,
    **elementwise.OPERATORS,
    **indexing.OPERATORS,
    **matmul.OPERATORS,
    **pad.OPERATORS,
    **pooling.OPERATORS,
    **quantize.OPERATORS,
    **ranges.OPERATORS,
    **reduction.OPERATORS,
    **scatter.OPERATORS,
    **search.OPERATORS,
    **selection.OPERATORS,
    **shape.OPERATORS,
    **slicing.OPERATORS,
    **trigonometry.OPERATORS,
    **unary.OPERATORS,
}
