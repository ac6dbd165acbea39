"""Pooling over windows, and over all of an image."""

from __future__ import annotations

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]


def _global_pool(kind: str) -> Lowering:
    """A reduction over the spatial axes; in integers it may write another scale."""

    def lower(node: Node, to: Builder) -> None:
        value = to.value(node.input(0))
        form = to.target(node.outputs[0], value)
        if kind != "MEAN" or form is None:
            form, value = None, to.real(value)
        perm = layout.channels_last(value.rank)
        made = to.emit(
            kind,
            [to.stored(value, perm), to.sizes(*range(1, value.rank - 1))],
            layout.apply(perm, node.shape),
            value.dtype if form is None else form.dtype,
            quantization=None if form is None else form.quantization,
            keepDims=True,
        )
        to.bind_value(node.outputs[0], Value(made, perm, node.dtype))

    return lower


OPERATORS: dict[str, Lowering] = {
    "GlobalAveragePool": _global_pool("MEAN"),
    "GlobalMaxPool": _global_pool("REDUCE_MAX"),
}
_ = (np, Unsupported)
