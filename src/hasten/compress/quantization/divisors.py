"""What something is divided by: half a step of the largest divisor is many times the smallest.

Levels lie evenly, so small values are rounded to other multiples of themselves, or to zero. Divided
by that, or under a logarithm, a result is off by as much, however large. So it is not quantized.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.graph import constant_arrays

if TYPE_CHECKING:
    import onnx

__all__ = ["divisor_tensors"]

#: Operators that hand the relative error of what they read on. A sum over many values does not.
_PASSING = frozenset(
    {
        *("Abs", "Add", "Cast", "Clip", "Concat", "Expand", "Flatten", "Gather", "Identity", "Max"),
        *("Min", "Mul", "Neg", "Pow", "Reciprocal", "Relu", "Reshape", "Slice", "Split", "Sqrt"),
        *("Squeeze", "Sub", "Transpose", "Unsqueeze"),
    }
)


def divisor_tensors(graph: onnx.ModelProto) -> frozenset[str]:
    """Return the computed tensors that lead to a divisor, or under a logarithm, as they are.

    Among them is the right side of a computed product that is divided by, as the memory of a linear
    attention is: all rows of the left share what is wrong with it, and one small in a head is small
    for all of them. Behind a second product nothing is looked for.
    """
    constants = set(constant_arrays(graph.graph))
    found: set[str] = set()
    behind_product: set[str] = set()
    for node in reversed(graph.graph.node):
        if node.op_type == "Div":
            found.add(node.input[1])
        elif node.op_type in {"Log", "Reciprocal"}:
            found.add(node.input[0])
        elif found.isdisjoint(node.output):
            continue
        elif node.op_type == "MatMul" and constants.isdisjoint(node.input):
            if behind_product.isdisjoint(node.output):
                found.add(node.input[1])
                behind_product.add(node.input[1])
        elif node.op_type in _PASSING:
            found.update(name for name in node.input if name)
            if not behind_product.isdisjoint(node.output):
                behind_product.update(name for name in node.input if name)
    return frozenset(found - constants)
