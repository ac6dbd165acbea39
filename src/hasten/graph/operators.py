"""The operators of an ONNX model: every node in every scope, and those some steps cannot take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import onnx

    Scope: TypeAlias = onnx.GraphProto | onnx.FunctionProto

__all__ = [
    "SHAPED_AS_FIRST",
    "all_nodes",
    "all_scopes",
    "attribute_of",
    "control_flow",
    "is_default_domain",
    "names_without_text",
    "node_label",
    "operator_label",
    "undefined_in_default_domain",
    "unknown_operators",
    "with_subgraphs",
    "without_defaults",
]

#: Operators that ONNX defines by a function alone, of whose output inference says nothing, and
#: Gelu, which is found in graphs of older opsets too: it has the type and shape of the first input.
SHAPED_AS_FIRST = frozenset({"Gelu", "GroupNormalization", "MeanVarianceNormalization"})

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})

#: Operators whose outputs are sequences or optional values.
_SEQUENCE_MAKERS = frozenset(
    {
        "Optional",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SplitToSequence",
    }
)


def all_scopes(proto: onnx.ModelProto) -> Iterator[Scope]:
    """Yield every graph and function of a model, and the subgraphs inside each."""
    roots: list[Scope] = [proto.graph, *proto.functions]
    for training in proto.training_info:
        roots += [training.initialization, training.algorithm]
    for root in roots:
        yield from with_subgraphs(root)


def with_subgraphs(scope: Scope) -> Iterator[Scope]:
    """Yield a graph or function and the subgraphs inside it."""
    yield scope
    for node in scope.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from with_subgraphs(attribute.g)
            for graph in attribute.graphs:
                yield from with_subgraphs(graph)


def all_nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Yield every node of a model, those inside subgraphs and functions included."""
    for scope in all_scopes(proto):
        yield from scope.node


def names_without_text(proto: onnx.ModelProto) -> list[bytes]:
    """Return the names of a model that are not UTF-8: protobuf gives these as bytes."""
    found: list[bytes] = []
    for scope in all_scopes(proto):
        found += _bytes_among(_names_of(scope))
    domains = [entry.domain for entry in proto.opset_import]
    return found + _bytes_among([*domains, *(entry.key for entry in proto.metadata_props)])


def _names_of(scope: Scope) -> Iterator[object]:
    yield scope.name
    for node in scope.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
        yield from (attribute.name for attribute in node.attribute)
    if hasattr(scope, "initializer"):
        yield from (tensor.name for tensor in scope.initializer)
        for value in (*scope.input, *scope.output, *scope.value_info):
            yield value.name
            yield from (dim.dim_param for dim in value.type.tensor_type.shape.dim)
    else:
        yield from (scope.domain, *scope.input, *scope.output, *scope.attribute)


def _bytes_among(names: Iterable[object]) -> list[bytes]:
    return [name for name in names if isinstance(name, bytes)]


def attribute_of(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """Return the value of a node's attribute, or the default where it has none."""
    from onnx import helper

    found = next((one for one in node.attribute if one.name == name), None)
    return default if found is None else helper.get_attribute_value(found)


def without_defaults(node: onnx.NodeProto, opset: int) -> onnx.NodeProto:
    """Return a copy of a node of ONNX's own without attributes that say what is the default."""
    from onnx import defs, helper

    made = type(node)()
    made.CopyFrom(node)
    if not defs.has(node.op_type, opset, ""):
        return made
    schema = defs.get_schema(node.op_type, opset, "").attributes
    said = [
        one
        for one in node.attribute
        if one.name not in schema
        or not schema[one.name].default_value.type
        or helper.get_attribute_value(schema[one.name].default_value)
        != helper.get_attribute_value(one)
    ]
    del made.attribute[:]
    made.attribute.extend(said)
    return made


def is_default_domain(domain: str) -> bool:
    """Whether this is ONNX's own operator set; it has two spellings."""
    return domain in {"", "ai.onnx"}


def node_label(node: onnx.NodeProto) -> str:
    """Return what to call a node in a message: its name, or its first output where it has none."""
    return node.name or (f"output {node.output[0]}" if node.output else "without a name")


def unknown_operators(proto: onnx.ModelProto) -> list[str]:
    """Return each operator that neither ONNX nor the model itself defines, as ``domain::op``.

    The default domain is left out of the text: ``NoSuchOp (node n1)``. Operators of custom domains
    are listed too; a runtime may take them.
    """
    return [operator_label(node) for node in _undefined(proto)]


def operator_label(node: onnx.NodeProto) -> str:
    """Return the operator with the node it was met at."""
    domain = "" if is_default_domain(node.domain) else f"{node.domain}::"
    return f"{domain}{node.op_type} (node {node_label(node)})"


def undefined_in_default_domain(proto: onnx.ModelProto) -> list[str]:
    """Return the operators that claim to be ONNX's own and are not in the opset imported."""
    return [operator_label(node) for node in _undefined(proto) if is_default_domain(node.domain)]


def _undefined(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    from onnx import defs

    local = {(_plain(function.domain), function.name) for function in proto.functions}
    main = _opsets(proto.opset_import)
    for scope in all_scopes(proto):
        own = getattr(scope, "opset_import", ())
        versions = {**main, **_opsets(own)}
        for node in scope.node:
            domain = _plain(node.domain)
            known = (domain, node.op_type) in local or defs.has(
                node.op_type, versions.get(domain, defs.onnx_opset_version()), domain
            )
            if not known:
                yield node


def _opsets(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    return {_plain(entry.domain): entry.version for entry in imports}


def _plain(domain: str) -> str:
    return "" if is_default_domain(domain) else domain


def control_flow(proto: onnx.ModelProto) -> list[str]:
    """Return what a step on plain tensor graphs cannot take: branches, loops, sequences, optionals.

    Each entry names the node or the value: ``If (node choose)``, ``sequence (value parts)``.
    """
    found = [
        f"{node.op_type} (node {node_label(node)})"
        for node in all_nodes(proto)
        if is_default_domain(node.domain) and node.op_type in _CONTROL_FLOW | _SEQUENCE_MAKERS
    ]
    graph = proto.graph
    for value in (*graph.input, *graph.output, *graph.value_info):
        kind = value.type.WhichOneof("value")
        if kind in {"sequence_type", "optional_type"}:
            found.append(f"{kind.removesuffix('_type')} (value {value.name})")
    return found
