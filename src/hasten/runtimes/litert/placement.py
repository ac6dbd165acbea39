"""Where an interpreter runs its operators, read from its graph after delegates changed it.

A delegate replaces the operators that it takes by one node of its own, which reads what the part
reads and writes what is read elsewhere. The operators themselves stay listed. So a part is found by
walking back from the node's outputs to its inputs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten.runtimes.placement import KERNELS, PlacedOperator, Placement

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

__all__ = ["XNNPACK", "Delegation", "locate", "located_whole"]

XNNPACK = "XNNPACK"
#: What LiteRT calls a node that stands for a part.
_DELEGATE = "DELEGATE"


@dataclass(frozen=True)
class Delegation:
    """The executor that was asked to run everything, and how many nodes there were once it had.

    Nodes that came after those are XNNPACK's, which is asked last.
    """

    wanted: str
    taken: int = 0


@dataclass(frozen=True)
class _Node:
    at: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


def locate(interpreter: Interpreter, delegation: Delegation, names: Sequence[str]) -> Placement:
    """Return where each operator of the main graph runs; ``names`` are of its nodes in order."""
    nodes = _nodes(interpreter)
    operators = [node for node in nodes if node.kind != _DELEGATE]
    part_of = _parts(operators, [node for node in nodes if node.kind == _DELEGATE])
    named = _namer(interpreter, names, len(operators))
    placed = []
    numbers: dict[object, int] = {}
    before: object = None
    for at, node in enumerate(operators):
        part = part_of.get(node.at)
        if part is None:
            # Kernels that follow each other are one part.
            key: object = before if isinstance(before, tuple) else (node.at,)
            executor = KERNELS
        else:
            key = part
            executor = delegation.wanted if part < delegation.taken else XNNPACK
        before = key
        number = numbers.setdefault(key, len(numbers))
        placed.append(PlacedOperator(node.kind, named(at, node), executor, number))
    crossing = _crossing_bytes(interpreter, operators, part_of)
    return Placement(delegation.wanted, len(numbers), crossing, tuple(placed))


def located_whole(path: str, executor: str, names: Sequence[str]) -> Placement:
    """Return the placement of a file that one executor beside the processor runs as a whole."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=path,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    nodes = _nodes(interpreter)
    named = _namer(interpreter, names, len(nodes))
    placed = tuple(
        PlacedOperator(node.kind, named(at, node), executor, 0) for at, node in enumerate(nodes)
    )
    wrapper = interpreter._interpreter
    outside = [*wrapper.InputIndices(), *wrapper.OutputIndices()]
    return Placement(executor, 1, sum(_bytes(wrapper, int(one)) for one in outside), placed)


def _nodes(interpreter: Interpreter) -> list[_Node]:
    # Not _get_ops_details: it raises for tensors of types that NumPy does not know.
    wrapper = interpreter._interpreter
    return [
        _Node(
            at,
            str(wrapper.NodeName(at)),
            tuple(int(one) for one in wrapper.NodeInputs(at)),
            tuple(int(one) for one in wrapper.NodeOutputs(at)),
        )
        for at in range(wrapper.NumNodes())
    ]


def _parts(operators: Sequence[_Node], delegates: Sequence[_Node]) -> dict[int, int]:
    """By operator, the delegate's node that stands for it."""
    maker = {tensor: node for node in operators for tensor in node.outputs}
    found: dict[int, int] = {}
    for delegate in delegates:
        outside = set(delegate.inputs)
        waiting = list(delegate.outputs)
        while waiting:
            node = maker.get(waiting.pop())
            if node is None or node.at in found:
                continue
            found[node.at] = delegate.at
            waiting += [tensor for tensor in node.inputs if tensor not in outside]
    return found


def _crossing_bytes(
    interpreter: Interpreter, operators: Sequence[_Node], part_of: dict[int, int]
) -> int:
    """Bytes of what one part makes and another one reads; the kernels count as one part."""
    readers: defaultdict[int, set[int | None]] = defaultdict(set)
    for node in operators:
        for tensor in node.inputs:
            readers[tensor].add(part_of.get(node.at))
    return sum(
        len(readers[tensor] - {part_of.get(node.at)}) * _bytes(interpreter._interpreter, tensor)
        for node in operators
        for tensor in node.outputs
        if tensor in readers
    )


def _bytes(wrapper: Any, tensor: int) -> int:
    kind = wrapper.TensorType(tensor, 0)
    if not kind:
        return 0
    count = int(np.prod(wrapper.TensorSize(tensor, 0), dtype=np.int64))
    return count * int(np.dtype(kind).itemsize)


def _namer(
    interpreter: Interpreter, names: Sequence[str], count: int
) -> Callable[[int, _Node], str]:
    """How to call the node of an operator; without names, a file says what an operator writes."""

    def named(at: int, node: _Node) -> str:
        if len(names) == count:
            return names[at]
        wrapper = interpreter._interpreter
        return f"output {wrapper.TensorName(node.outputs[0], 0)}" if node.outputs else str(at)

    return named
