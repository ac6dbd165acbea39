"""The float graph that training for int8 begins with, and how its constants follow from parameters.

What a runtime wants as constants of their own, a weight transposed or a bias corrected, stays a
function of the parameter that is trained: one that is tied stays tied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from onnx import helper, numpy_helper

from hasten.compress.quantization.bias_correction import correct_biases
from hasten.compress.quantization.separate_roles import separate_roles
from hasten.graph import constants_of, fold_derived, parents_of

if TYPE_CHECKING:
    from collections.abc import Collection

    import onnx

    from hasten.compress.quantization.rounding import Weights
    from hasten.graph import Derivations

__all__ = ["TrainedSource", "trained_source"]


@dataclass(frozen=True, eq=False)
class TrainedSource:
    """A float graph to quantize; ``trained`` are parameters, of which ``derived`` are constants.

    ``parents`` holds the constants that others are derived from.
    """

    graph: onnx.ModelProto
    trained: frozenset[str]
    derived: Derivations
    parents: Mapping[str, onnx.TensorProto]


def trained_source(
    graph: onnx.ModelProto,
    trained: Collection[str],
    means: Mapping[str, np.ndarray],
    weights: Weights,
) -> TrainedSource:
    """Return the graph as it is quantized, with biases corrected, for these trained constants.

    ``means`` are those of the inputs of products, for ``correct_biases``.
    """
    parents = dict(constants_of(graph.graph))
    folded, derived = fold_derived(graph)
    separated, copies = separate_roles(folded)
    derived |= {copy: _chain(nodes, derived) for copy, nodes in copies.items()}
    corrected = correct_biases(separated, means, weights)
    found = set(trained)
    for node, before in zip(corrected.graph.node, separated.graph.node, strict=True):
        for new, old in zip_longest(node.input, before.input, fillvalue=""):
            if new == old:
                continue
            if old:
                # What is added is constant, so the bias before it is what is trained.
                shift = _difference(corrected, new, separated, old)
                parents[shift.name] = shift
                add = helper.make_node("Add", [old, shift.name], [new])
                derived[new] = _chain([add], derived)
            elif any(not found.isdisjoint(parents_of(name, derived)) for name in before.input):
                found.add(new)
    return TrainedSource(corrected, frozenset(found), derived, parents)


def _chain(nodes: list[onnx.NodeProto], derived: Derivations) -> list[onnx.NodeProto]:
    """Return the nodes after those that make what they read."""
    before = [one for node in nodes for name in node.input for one in derived.get(name, ())]
    return [*before, *nodes]


def _difference(
    after: onnx.ModelProto, new: str, before: onnx.ModelProto, old: str
) -> onnx.TensorProto:
    have, had = constants_of(after.graph)[new], constants_of(before.graph)[old]
    shift = numpy_helper.to_array(have) - numpy_helper.to_array(had)
    return numpy_helper.from_array(np.asarray(shift, np.float32), f"{new}/shift")
