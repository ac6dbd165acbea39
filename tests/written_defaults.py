"""The same graph in two spellings: every default written out, and every default left out.

A default is what the operator's schema says, what ONNX says in words (strides of one, no padding,
axes reversed), and an optional input that is there by an empty name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import onnx
from onnx import defs, helper, shape_inference

__all__ = ["SPELLINGS", "left_out", "written_out"]

_CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "ConvTranspose"})
_POOLS = frozenset({"AveragePool", "LpPool", "MaxPool"})


def written_out(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with each default in its place."""
    made = _copy(proto)
    for node, schema, in_words in _known(made):
        there = {one.name for one in node.attribute}
        for name, value in (*_of_schema(schema), *in_words):
            if name not in there:
                node.attribute.append(helper.make_attribute(name, value))
        node.input.extend([""] * (_optional_inputs(schema) - len(node.input)))
    return made


def left_out(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with no default in it."""
    made = _copy(proto)
    for node, schema, in_words in _known(made):
        defaults = dict([*in_words, *_of_schema(schema)])
        kept = [one for one in node.attribute if not _says(one, defaults)]
        del node.attribute[:]
        node.attribute.extend(kept)
        while node.input and not node.input[-1] and len(node.input) > schema.min_input:
            del node.input[-1]
    return made


SPELLINGS: Mapping[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "written out": written_out,
    "left out": left_out,
}


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(proto)
    return made


def _known(
    proto: onnx.ModelProto,
) -> Iterator[tuple[onnx.NodeProto, defs.OpSchema, list[tuple[str, Any]]]]:
    """Yield the nodes that ONNX knows, each with its schema and its defaults in words."""
    shapes = _shapes(proto)
    for node in proto.graph.node:
        schema = _schema(node, proto)
        if schema is not None:
            yield node, schema, _in_words(node, shapes)


def _schema(node: onnx.NodeProto, proto: onnx.ModelProto) -> defs.OpSchema | None:
    versions = {one.domain: one.version for one in proto.opset_import}
    version = versions.get(node.domain, 0)
    if not defs.has(node.op_type, version, node.domain):
        return None
    return defs.get_schema(node.op_type, version, node.domain)


def _of_schema(schema: defs.OpSchema) -> list[tuple[str, Any]]:
    return [
        (name, helper.get_attribute_value(one.default_value))
        for name, one in schema.attributes.items()
        if one.default_value.type != onnx.AttributeProto.UNDEFINED
    ]


def _in_words(node: onnx.NodeProto, shapes: Mapping[str, int]) -> list[tuple[str, Any]]:
    """Defaults that depend on the rank of what the node reads."""
    rank = shapes.get(node.input[0]) if node.input else None
    if rank is None:
        return []
    if node.op_type == "Transpose":
        return [("perm", list(reversed(range(rank))))]
    if node.op_type not in _CONVOLUTIONS | _POOLS:
        return []
    found: list[tuple[str, Any]] = [("strides", [1] * (rank - 2))]
    if node.op_type in {*_CONVOLUTIONS, "MaxPool"}:
        found.append(("dilations", [1] * (rank - 2)))
    by_hand = all(one.s == b"NOTSET" for one in node.attribute if one.name == "auto_pad")
    shaped = any(one.name == "output_shape" for one in node.attribute)
    if by_hand and not shaped:
        found.append(("pads", [0] * 2 * (rank - 2)))
    if node.op_type == "ConvTranspose":
        found.append(("output_padding", [0] * (rank - 2)))
    return found


def _says(attribute: onnx.AttributeProto, defaults: Mapping[str, Any]) -> bool:
    if attribute.name not in defaults:
        return False
    value = helper.get_attribute_value(attribute)
    default = defaults[attribute.name]
    return list(value) == list(default) if isinstance(default, list) else bool(value == default)


def _optional_inputs(schema: defs.OpSchema) -> int:
    """As many inputs as can be there by an empty name."""
    optional = defs.OpSchema.FormalParameterOption.Optional
    singles = itertools.takewhile(
        lambda one: one.option != defs.OpSchema.FormalParameterOption.Variadic, schema.inputs
    )
    places = [at for at, one in enumerate(singles, 1) if one.option == optional]
    return max(places, default=0)


def _shapes(proto: onnx.ModelProto) -> dict[str, int]:
    """Ranks by name, as far as ONNX infers them."""
    graph = shape_inference.infer_shapes(proto).graph
    known = (*graph.input, *graph.output, *graph.value_info)
    ranks = {
        one.name: len(one.type.tensor_type.shape.dim)
        for one in known
        if one.type.tensor_type.HasField("shape")
    }
    return {**ranks, **{one.name: len(one.dims) for one in graph.initializer}}
