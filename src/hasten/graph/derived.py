"""Constants that are made of other constants: a transposed weight, one that is normalised.

PyTorch keeps one parameter and computes from it what an operator wants; an exporter writes the
nodes. Steps that need the constant itself compute it here, and keep how it was made, so that what
is tied stays tied: a change of the parameter is a change of everything derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hasten.graph.constants import FLOAT, constants_of, drop_unused
from hasten.graph.operators import control_flow, is_default_domain
from hasten.graph.parameter_names import (
    ParameterNames,
    parameter_names,
    with_parameter_names,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["Derivations", "constant_result", "fold_derived", "parents_of"]

#: For each constant that is derived, the nodes that make it, in order.
Derivations = dict[str, list["onnx.NodeProto"]]

#: Operators whose result is another one each time, or no tensor.
_NOT_CONSTANT = frozenset(
    {
        "Bernoulli",
        "If",
        "Loop",
        "Multinomial",
        "Optional",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Scan",
        "SequenceConstruct",
        "SequenceEmpty",
        "SplitToSequence",
        "QuantizeLinear",
        "DequantizeLinear",
    }
)
#: A derived constant may be so many times as large as all that it is made of.
_GROWTH = 4


def fold_derived(graph: onnx.ModelProto) -> tuple[onnx.ModelProto, Derivations]:
    """Return the graph with what is computed from float constants alone as constants of their own.

    They have the names of the tensors that they replace. With them comes how each is made; a graph
    without any, or with branches, is returned itself. Shapes and other integers are left to
    ``clean``.
    """
    if control_flow(graph):
        return graph, {}
    known = dict(constants_of(graph.graph))
    outputs = {output.name for output in graph.graph.output}
    made: Derivations = {}
    gone: list[onnx.NodeProto] = []
    for node in graph.graph.node:
        if not _is_derived(node, known) or outputs.intersection(node.output):
            continue
        value = constant_result(node, known, graph)
        if value is None:
            continue
        (name,) = node.output
        before = [one for parent in node.input for one in made.get(parent, ())]
        made[name] = [*_without_repeats(before), node]
        known[name] = value
        gone.append(node)
    if not made:
        return graph, {}
    return _replaced(graph, known, made, gone), made


def parents_of(name: str, derivations: Mapping[str, list[onnx.NodeProto]]) -> list[str]:
    """Return the constants that one is made of; itself where it is derived from none.

    >>> parents_of("w", {})
    ['w']
    """
    nodes = derivations.get(name)
    if nodes is None:
        return [name]
    inner = {output for node in nodes for output in node.output}
    found = [parent for node in nodes for parent in node.input if parent and parent not in inner]
    return list(dict.fromkeys(found))


def _is_derived(node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto]) -> bool:
    inputs = [name for name in node.input if name]
    return (
        bool(inputs)
        and len(node.output) == 1
        and is_default_domain(node.domain)
        and node.op_type not in _NOT_CONSTANT
        and all(name in known for name in inputs)
        and any(known[name].data_type == FLOAT for name in inputs)
    )


def constant_result(
    node: onnx.NodeProto, known: Mapping[str, onnx.TensorProto], graph: onnx.ModelProto
) -> onnx.TensorProto | None:
    """Return what a node makes of constants; None for what is no float32, or much larger.

    None also where ONNX's reference implementation, which computes it, does not come through: it
    fails at some nodes that are right, such as GatherElements along a long axis. ``graph`` is the
    one it stands in, whose opset it is of.
    """
    from onnx import helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    names = list(dict.fromkeys(name for name in node.input if name))
    feed = {name: numpy_helper.to_array(known[name]) for name in names}
    inputs = [helper.make_tensor_value_info(one, known[one].data_type, None) for one in names]
    output = helper.make_empty_tensor_value_info(node.output[0])
    alone = helper.make_graph([node], "constant", inputs, [output])
    model = helper.make_model(alone, opset_imports=list(graph.opset_import))
    try:
        (result,) = ReferenceEvaluator(model).run(None, feed)
    except Exception:  # noqa: BLE001 - of any kind, and the node is as right as it was
        return None
    value = np.asarray(result)
    if value.dtype != np.float32 or value.nbytes > _GROWTH * sum(v.nbytes for v in feed.values()):
        return None
    return numpy_helper.from_array(np.ascontiguousarray(value), node.output[0])


def _replaced(
    graph: onnx.ModelProto,
    known: Mapping[str, onnx.TensorProto],
    made: Derivations,
    gone: list[onnx.NodeProto],
) -> onnx.ModelProto:
    folded = type(graph)()
    folded.CopyFrom(graph)
    outputs = {name for node in gone for name in node.output}
    kept = [node for node in folded.graph.node if not outputs.intersection(node.output)]
    del folded.graph.node[:]
    folded.graph.node.extend(kept)
    folded.graph.initializer.extend(known[name] for name in made)
    drop_unused(folded.graph)
    return with_parameter_names(folded, _inherited(parameter_names(graph), made))


def _inherited(names: ParameterNames | None, made: Derivations) -> ParameterNames | None:
    """Return the names with those that are derived: they are trained as what they are made of."""
    if names is None:
        return None
    trained = set(names.trained)
    learnt = [name for name in made if trained.intersection(parents_of(name, made))]
    rest = [name for name in made if name not in learnt]
    return ParameterNames((*names.trained, *learnt), (*names.fixed, *rest))


def _without_repeats(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    return list({node.output[0]: node for node in nodes}.values())
