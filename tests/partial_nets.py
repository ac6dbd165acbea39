"""Small graphs of which XNNPACK, and the GPU, take only a part."""

from __future__ import annotations

import onnx
from onnx import helper

from hasten.graph import Model, model_from_proto
from onnx_models import model, value, weight

__all__ = ["FIRST", "LAST", "LEFT", "partial_net", "partial_proto"]

#: The nodes: XNNPACK takes the first and the last, and leaves the one between.
FIRST, LEFT, LAST = "widen", "logits", "narrow"


def partial_proto() -> onnx.ModelProto:
    """x[n,4] through two matrix products to y[n,3], with a LogSoftmax of 8 between them."""
    return model(
        [
            helper.make_node("MatMul", ["x", "v"], ["a"], name=FIRST),
            helper.make_node("LogSoftmax", ["a"], ["b"], name=LEFT),
            helper.make_node("MatMul", ["b", "w"], ["y"], name=LAST),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [weight("v", 4, 8), weight("w", 8, 3)],
    )


def partial_net() -> Model:
    """The same as a model."""
    return model_from_proto(partial_proto(), "partial")
