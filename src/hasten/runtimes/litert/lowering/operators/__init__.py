"""How each ONNX operator is said in TFLite: one small entry a operator, in files by kind."""

from __future__ import annotations

from hasten.runtimes.litert.lowering.operators import (
    activation,
    bitwise,
    blocks,
    comparison,
    convolution,
    division,
    einsum,
    elementwise,
    indexing,
    matmul,
    normalization,
    pad,
    pooling,
    quantize,
    ranges,
    recurrent,
    reduction,
    resize,
    scatter,
    search,
    selection,
    shape,
    slicing,
    softmax,
    transposed_convolution,
    trigonometry,
    unary,
)
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS"]

#: Every operator by its ONNX name. To add one, write its function and a line in its file's table.
OPERATORS: dict[str, Lowering] = {
    **activation.OPERATORS,
    **bitwise.OPERATORS,
    **blocks.OPERATORS,
    **comparison.OPERATORS,
    **convolution.OPERATORS,
    **division.OPERATORS,
    **einsum.OPERATORS,
    **elementwise.OPERATORS,
    **indexing.OPERATORS,
    **matmul.OPERATORS,
    **normalization.OPERATORS,
    **pad.OPERATORS,
    **pooling.OPERATORS,
    **quantize.OPERATORS,
    **ranges.OPERATORS,
    **recurrent.OPERATORS,
    **reduction.OPERATORS,
    **resize.OPERATORS,
    **scatter.OPERATORS,
    **search.OPERATORS,
    **selection.OPERATORS,
    **shape.OPERATORS,
    **slicing.OPERATORS,
    **softmax.OPERATORS,
    **transposed_convolution.OPERATORS,
    **trigonometry.OPERATORS,
    **unary.OPERATORS,
}
