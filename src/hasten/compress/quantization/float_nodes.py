"""Nodes that stay in float because the QDQ writer cannot take them, each with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.quantization.calibration import Range
from hasten.compress.quantization.divisors import divisor_tensors
from hasten.compress.quantization.masks import masked_tensors
from hasten.compress.quantization.writer_form import quantized_kinds
from hasten.graph import FLOAT, attribute_of

if TYPE_CHECKING:
    import onnx

__all__ = ["float_tensors", "offenders", "told", "unwritable_nodes"]

_BIAS = 2
#: What the writer gives the scale of its input; it comes to no end where that has one already.
_SHARING = frozenset(
    {
        *(
            "AveragePool",
            "Flatten",
            "Gather",
            "GatherElements",
            "MaxPool",
            "Pad",
            "Reshape",
            "Resize",
        ),
        *("Slice", "Split", "Squeeze", "TopK", "Transpose", "Unsqueeze"),
    }
)


def unwritable_nodes(graph: onnx.ModelProto, ranges: Mapping[str, Range]) -> dict[str, str]:
    """Return the nodes that the writer would fail at, or write wrongly, by name with the reason.

    ``graph`` is in the form for writers, whose nodes have names. A node needs a range for each
    float32 activation that it reads or makes: what holds mask values or infinities has none.
    """
    kinds = quantized_kinds()
    constants = {tensor.name: tensor for tensor in graph.graph.initializer}
    masked, divisors = masked_tensors(graph), divisor_tensors(graph)
    without = float_tensors(graph) - set(ranges) - set(constants)
    endless = {name for name, tensor in constants.items() if _is_endless(tensor)}
    dequantized = {
        node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"
    }
    found: dict[str, str] = {}
    for node in graph.graph.node:
        if node.op_type not in kinds:
            continue
        shares = node.op_type in _SHARING and node.input[0] in dequantized
        touched = [name for name in (*node.input, *node.output) if name]
        reasons = (
            *("it reads or makes a mask" for name in touched if name in masked),
            *("it reads or makes what is divided by" for name in touched if name in divisors),
            *("a constant of it is infinite" for name in touched if name in endless),
            *("no range is known, as of infinities" for name in touched if name in without),
            *(["what it reads has a scale already"] if shares else []),
            *_of_form(node, constants),
        )
        if reasons:
            found[node.name] = reasons[0]
    return found


def float_tensors(graph: onnx.ModelProto) -> set[str]:
    """Return the float32 tensors of a graph, as far as ONNX infers them."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(graph).graph
    return {
        value.name
        for value in (*inferred.value_info, *inferred.output, *inferred.input)
        if value.type.tensor_type.elem_type == FLOAT
    }


def offenders(names: Sequence[str], failure: Callable[[Collection[str]], str]) -> dict[str, str]:
    """Return the least that has to be left out, found by trying, each with what went wrong.

    ``failure`` says what happens with these names alone, empty where nothing does. Names are taken
    in, in order, as many at once as work together with all that were taken before.

    >>> offenders("abcdef", lambda some: "tied" if {"b", "e"} <= set(some) else "")
    {'e': 'tied'}
    """
    good: set[str] = set()
    left: dict[str, str] = {}

    def take(part: Sequence[str]) -> None:
        reason = failure(good | set(part))
        if not reason:
            good.update(part)
        elif len(part) == 1:
            left[part[0]] = reason
        else:
            take(part[: len(part) // 2])
            take(part[len(part) // 2 :])

    if names:
        take(names)
    return left


def told(left: Mapping[str, str]) -> str:
    """Say which nodes stay in float, by reason."""
    reasons = Counter(left.values())
    examples = {reason: next(node for node in left if left[node] == reason) for reason in reasons}
    return "; ".join(
        f"{examples[reason]}{f' and {count - 1} more' if count > 1 else ''}: {reason}"
        for reason, count in reasons.items()
    )


def _of_form(node: onnx.NodeProto, constants: Mapping[str, onnx.TensorProto]) -> Iterator[str]:
    """Say what of a node's own form the writer has no scales for."""
    if node.op_type == "ConvTranspose" and attribute_of(node, "group", 1) != 1:
        yield "a transposed convolution of several groups"
    weight = constants.get(node.input[1]) if len(node.input) > 1 else None
    if node.op_type == "LayerNormalization" and weight is not None and len(weight.dims) > 1:
        yield "it normalises over several axes"
    bias = constants.get(node.input[_BIAS]) if len(node.input) > _BIAS else None
    if node.op_type == "Gemm" and bias is not None and len(bias.dims) != 1:
        yield "its bias is a matrix"


def _is_endless(tensor: onnx.TensorProto) -> bool:
    from onnx import numpy_helper

    return tensor.data_type == FLOAT and not np.isfinite(numpy_helper.to_array(tensor)).all()
