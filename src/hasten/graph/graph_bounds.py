"""Whether a graph keeps within what any tool can hold, asked before a tool tries.

Shape inference and runtimes put the nodes of a function in the place of each call. Twenty functions
of which each calls the one before it ten times are a kilobyte, and 10^20 nodes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hasten.errors import ModelError
from hasten.graph.operators import with_subgraphs

if TYPE_CHECKING:
    import onnx

    from hasten.graph.operators import Scope

__all__ = ["require_bounded"]

_MAX_NODES = 1_000_000
_MAX_VERSION = 2**31 - 1
#: Far above what any machine holds; sums of a few stay within 64 bits.
_MAX_ELEMENTS = 2**40

_Function = tuple[str, str, str]


def require_bounded(proto: onnx.ModelProto, where: str) -> None:
    """Raise ModelError for numbers and for functions that grow beyond all measure."""
    versions = [entry.version for entry in proto.opset_import]
    for version in (*versions, proto.ir_version):
        if not 0 <= version <= _MAX_VERSION:
            raise ModelError(expected="a version of ONNX", got=str(version), where=where)
    for value in (*proto.graph.input, *proto.graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if math.prod(max(1, dim) for dim in dims) > _MAX_ELEMENTS:
            raise ModelError(
                expected=f"{value.name[:100]!r} of at most 2^40 elements",
                got=str(dims)[:100],
                where=where,
            )
    if proto.functions:
        _require_expandable(proto, where)


def _require_expandable(proto: onnx.ModelProto, where: str) -> None:
    bodies: dict[_Function, onnx.FunctionProto] = {}
    for one in proto.functions:
        bodies[one.domain, one.name, one.overload] = one
    sizes: dict[_Function, int] = {}
    for key in bodies:
        _measure(key, bodies, sizes, where)
    total = _size(proto.graph, bodies, sizes)
    if total > _MAX_NODES:
        raise ModelError(
            expected=f"at most {_MAX_NODES} nodes, those of functions at each call counted",
            got=f"{total:.3g}" if total < 10**300 else "more than 10^300",
            where=where,
        )


def _measure(
    first: _Function,
    bodies: dict[_Function, onnx.FunctionProto],
    sizes: dict[_Function, int],
    where: str,
) -> None:
    """Find the nodes of a function and of those it calls, without recursion of our own."""
    path = [first]
    while path:
        here = path[-1]
        unknown = [one for one in _calls(bodies[here], bodies) if one not in sizes]
        if not unknown:
            sizes[here] = _size(bodies[here], bodies, sizes)
            path.pop()
        elif unknown[0] in path:
            raise ModelError(
                expected="functions that do not call themselves",
                got=f"{unknown[0][1][:100]!r}, which does",
                where=where,
            )
        else:
            path.append(unknown[0])


def _calls(scope: Scope, bodies: dict[_Function, onnx.FunctionProto]) -> list[_Function]:
    keys = [
        (node.domain, node.op_type, node.overload)
        for part in with_subgraphs(scope)
        for node in part.node
    ]
    return [key for key in keys if key in bodies]


def _size(
    scope: Scope, bodies: dict[_Function, onnx.FunctionProto], sizes: dict[_Function, int]
) -> int:
    nodes = sum(len(part.node) for part in with_subgraphs(scope))
    return nodes + sum(min(sizes[key], 10**301) for key in _calls(scope, bodies))
