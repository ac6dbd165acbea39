"""Every operator that can be trained through, in one table from its name to its function.

To add one, write its function in the file of its kind and give it a line in that file's table.
"""

from __future__ import annotations

from hasten.train.operators import (
    activation,
    convolution,
    elementwise,
    fake_quantize,
    indexing,
    matmul,
    normalization,
    pooling,
    quantize,
    recurrent,
    reduction,
    resize,
    sampling,
    selection,
    shape,
)
from hasten.train.operators.table import Mode, Node, Operator, Refusal, integers

__all__ = ["OPERATORS", "REFUSALS", "Mode", "Node", "Operator", "Refusal", "integers"]

#: By operator, the function that computes it.
OPERATORS: dict[str, Operator] = {
    **activation.OPERATORS,
    **convolution.OPERATORS,
    **elementwise.OPERATORS,
    **fake_quantize.OPERATORS,
    **indexing.OPERATORS,
    **matmul.OPERATORS,
    **normalization.OPERATORS,
    **pooling.OPERATORS,
    **quantize.OPERATORS,
    **recurrent.OPERATORS,
    **reduction.OPERATORS,
    **resize.OPERATORS,
    **sampling.OPERATORS,
    **selection.OPERATORS,
    **shape.OPERATORS,
}

#: By operator, what says why one of its nodes cannot be taken.
REFUSALS: dict[str, Refusal] = {
    **normalization.REFUSALS,
    **pooling.REFUSALS,
    **quantize.REFUSALS,
    **recurrent.REFUSALS,
    **resize.REFUSALS,
    **sampling.REFUSALS,
    **selection.REFUSALS,
}
