"""The operators of TensorFlow Lite that come back into the graph: one entry each, by kind."""

from __future__ import annotations

from hasten.graph.tflite.operators import (
    activation,
    convolution,
    elementwise,
    image,
    matmul,
    pooling,
    quantize,
    reduction,
    selection,
    shape,
)
from hasten.graph.tflite.operators.table import Importing

__all__ = ["OPERATORS"]

#: Every operator by its name in the schema. To add one, write an entry in the file of its kind.
OPERATORS: dict[str, Importing] = {
    name: entry
    for kind in (
        activation,
        convolution,
        elementwise,
        image,
        matmul,
        pooling,
        quantize,
        reduction,
        selection,
        shape,
    )
    for name, entry in kind.OPERATORS.items()
}
