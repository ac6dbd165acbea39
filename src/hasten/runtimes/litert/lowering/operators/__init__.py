"""How each ONNX operator is said in TFLite: one small entry a operator, in files by kind."""

from __future__ import annotations

from hasten.runtimes.litert.lowering.operators import (
    activation,
    blocks,
    convolution,
    elementwise,
    matmul,
    normalization,
    pooling,
    quantize,
    recurrent,
    reduction,
    resize,
    shape,
    softmax,
    transposed_convolution,
)
from hasten.runtimes.litert.lowering.operators.table import Lowering

__all__ = ["OPERATORS"]

#: Every operator by its ONNX name. To add one, write its function and a line in its file's table.
OPERATORS: dict[str, Lowering] = {
    **activation.OPERATORS,
    **blocks.OPERATORS,
    **convolution.OPERATORS,
    **elementwise.OPERATORS,
    **matmul.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **quantize.OPERATORS,
    **recurrent.OPERATORS,
    **reduction.OPERATORS,
    **resize.OPERATORS,
    **shape.OPERATORS,
    **softmax.OPERATORS,
    **transposed_convolution.OPERATORS,
}
