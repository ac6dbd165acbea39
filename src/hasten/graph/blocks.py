"""The blocks of a graph: segments that one value enters and one value leaves, branches and all.

A block is what can be kept in another precision, or taken out, with one border before it and one
behind it: a residual block with its squeeze-and-excite, an attention with its skip, a convolution
with its activation.

Borders are found with a random circulation: each tensor carries a random number of 64 bits, and at
every node, and where a tensor is read more than once, what comes in equals (by exclusive or) what
goes out. Two tensors carry the same number exactly when every path, and so every cycle through the
end and the beginning, takes both or neither: they enclose a region with a single entry and a single
exit (cycle equivalence; Johnson, Pearson and Pingali, The Program Structure Tree, PLDI 1994).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["Block", "blocks", "node_names"]

#: Operators that multiply activations: what blocks are counted in.
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: What comes out of these tells of sizes alone, not of activations.
_SIZES = frozenset({"Shape", "Size"})
#: A region with more products than this is divided along the chains inside it, as a U-Net is,
#: whose first skip encloses nearly all of it. Residual, inception and attention blocks have fewer.
_MOST_PRODUCTS = 8


@dataclass(frozen=True)
class Block:
    """Some nodes of a graph, by name and in its order. ``name`` is that of the first on a path.

    Nodes are called as ``node_names`` calls them.
    """

    name: str
    nodes: tuple[str, ...]

    @property
    def label(self) -> str:
        """Its first and its last node: ``conv1..add3``."""
        return self.name if len(self.nodes) == 1 else f"{self.name}..{self.nodes[-1]}"


def blocks(graph: onnx.ModelProto) -> tuple[Block, ...]:
    """Divide the graph's nodes into blocks, in the order of the graph; each node is in one.

    Constants, and what is computed from them or from shapes alone, are no paths and go along with
    their reader. A node without products, such as an activation, belongs to the block before it;
    a depthwise convolution to the pointwise ones around it. What joins the branches of a region
    that was too large to be one block goes along with its reader.
    """
    nodes = list(graph.graph.node)
    flow = _Flow.through(graph)
    groups = sorted(_divided(flow, flow.nodes, flow.total), key=min)
    home = {node: at for at, group in enumerate(groups) for node in group}
    _take_along(nodes, home)
    names = node_names(graph)
    members: dict[int, list[int]] = {}
    for node in range(len(nodes)):
        members.setdefault(home[node], []).append(node)
    return tuple(
        Block(names[groups[at][0] if at >= 0 else found[0]], tuple(names[node] for node in found))
        for at, found in sorted(members.items())
    )


def node_names(graph: onnx.ModelProto) -> list[str]:
    """Name each node: by its own name where it shares it with no other, else by its first output.

    Blocks and steps speak of nodes by these.
    """
    nodes = graph.graph.node
    taken = Counter(node.name for node in nodes)
    return [node.name if node.name and taken[node.name] == 1 else node.output[0] for node in nodes]


@dataclass
class _Edge:
    """A tensor on its way to one reader: the number it carries, its maker and the reader.

    An input of the graph is made by -1.
    """

    number: int
    start: int
    end: int


@dataclass
class _Flow:
    """The nodes on some path from the inputs to the outputs, and what circulates between them.

    ``made`` is the number that the single output of a node carries, ``total`` that of all inputs
    together.
    """

    products: dict[int, int]
    depthwise: set[int]
    gates: set[int]
    nodes: list[int] = field(default_factory=list)
    readers: dict[int, list[int]] = field(default_factory=dict)
    makers: dict[int, list[int]] = field(default_factory=dict)
    uses: list[_Edge] = field(default_factory=list)
    made: dict[int, int] = field(default_factory=dict)
    total: int = 0

    @classmethod
    def through(cls, graph: onnx.ModelProto) -> _Flow:
        """Let numbers circulate through the graph."""
        nodes = graph.graph.node
        flow = cls(
            {at: int(node.op_type in _PRODUCTS) for at, node in enumerate(nodes)},
            _depthwise(graph),
            {at for at, node in enumerate(nodes) if node.op_type == "Mul"},
        )
        source = random.Random(0)  # noqa: S311 - numbers that differ, not a secret
        inputs, reads, uses = _paths(graph)
        waiting: dict[str, list[int]] = {}
        maker: dict[str, int] = {}

        for name in inputs:
            number = source.getrandbits(64)
            flow.total ^= number
            maker[name], waiting[name] = -1, _spread(number, uses[name], source)
        for at, read in reads.items():
            flow.nodes.append(at)
            entering = 0
            for name in read:
                number = waiting[name].pop()
                entering ^= number
                flow.uses.append(_Edge(number, maker[name], at))
                flow._connect(maker[name], at)
            outputs = [name for name in nodes[at].output if uses[name]]
            if len(outputs) == 1:
                flow.made[at] = entering
            leaving = _spread(entering, len(outputs), source)
            for name, number in zip(outputs, leaving, strict=True):
                maker[name], waiting[name] = at, _spread(number, uses[name], source)
        return flow

    def _connect(self, start: int, end: int) -> None:
        if start >= 0:
            self.readers.setdefault(start, []).append(end)
            self.makers.setdefault(end, []).append(start)

    def count(self, nodes: Iterable[int]) -> int:
        """How many products are among these nodes."""
        return sum(self.products[node] for node in nodes)


def _spread(number: int, count: int, source: random.Random) -> list[int]:
    """Divide a number into so many random ones that make it up."""
    parts = [source.getrandbits(64) for _ in range(count - 1)]
    for part in parts:
        number ^= part
    return [*parts, number]


def _depthwise(graph: onnx.ModelProto) -> set[int]:
    """Convolutions with as many groups as channels out."""
    channels = {tensor.name: tensor.dims[0] for tensor in graph.graph.initializer if tensor.dims}
    found = set()
    for at, node in enumerate(graph.graph.node):
        groups = [one.i for one in node.attribute if one.name == "group"]
        if node.op_type == "Conv" and groups and groups[0] == channels.get(node.input[1]) != 1:
            found.add(at)
    return found


def _paths(graph: onnx.ModelProto) -> tuple[list[str], dict[int, list[str]], Counter[str]]:
    """Return the inputs, what each node on a path reads of it, and how often tensors are used."""
    constants = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value.name for value in graph.graph.input if value.name not in constants]
    carried = set(inputs)
    reads: dict[int, list[str]] = {}
    for at, node in enumerate(graph.graph.node):
        read = [name for name in node.input if name in carried]
        if read and node.op_type not in _SIZES:
            reads[at] = read
            carried.update(name for name in node.output if name)
    uses = Counter(value.name for value in graph.graph.output if value.name in carried)
    for at in reversed(list(reads)):
        if any(uses[name] for name in graph.graph.node[at].output):
            uses.update(reads[at])
        else:
            del reads[at]
    return [name for name in inputs if uses[name]], reads, uses


def _divided(flow: _Flow, region: Sequence[int], number: int) -> list[list[int]]:
    """Divide a region along the tensors that carry its number: all that goes through it."""
    segments: list[list[int]] = [[]]
    for node in region:
        segments[-1].append(node)
        if flow.made.get(node) == number:
            segments.append([])
    groups: list[list[int]] = []
    joining = _Joining(flow)
    for segment in segments:
        if flow.count(segment) > _MOST_PRODUCTS:
            groups += [joining.taken(), *_inside(flow, segment)]
        elif segment and not joining.takes(segment):
            groups.append(joining.taken())
            joining.takes(segment)
    return [group for group in (*groups, joining.taken()) if group]


@dataclass
class _Joining:
    """Segments of a chain that become one block."""

    flow: _Flow
    nodes: list[int] = field(default_factory=list)
    #: Whether there is a depthwise convolution whose pointwise one is still to come.
    open_ended: bool = False

    def takes(self, segment: list[int]) -> bool:
        """Take a segment that belongs to those before it; returns whether it does."""
        before, count = self.flow.count(self.nodes), self.flow.count(segment)
        depthwise = count == 1 and not self.flow.depthwise.isdisjoint(segment)
        gate = count > 1 and segment[-1] in self.flow.gates
        expanded = before == 1 and self.flow.depthwise.isdisjoint(self.nodes)
        if before and count and not gate:
            if depthwise and not expanded:
                return False
            if not depthwise and not (self.open_ended and count == 1):
                return False
        self.nodes += segment
        if count and not gate:
            self.open_ended = depthwise
        return True

    def taken(self) -> list[int]:
        """Return what was taken, and begin anew."""
        nodes, self.nodes, self.open_ended = self.nodes, [], False
        return nodes


def _inside(flow: _Flow, segment: Sequence[int]) -> list[list[int]]:
    """Divide a segment that is too large: along the longest chain inside it, then what is left."""
    rest, groups = list(segment), list[list[int]]()
    while True:
        chains = _chains(flow, rest)
        number = max(chains, key=lambda one: flow.count(chains[one]), default=None)
        if number is None or not flow.count(chains[number]):
            return [*groups, *_components(flow, rest)]
        groups += _divided(flow, chains[number], number)
        rest = sorted(set(rest) - set(chains[number]))


def _chains(flow: _Flow, nodes: Sequence[int]) -> dict[int, list[int]]:
    """Return, for each number that circulates inside, the nodes from its first tensor to its last.

    The number that goes through all of the nodes is left out.
    """
    inside = set(nodes)
    borders: dict[int, list[tuple[int, list[int], int]]] = {}
    for edge in flow.uses:
        if edge.end in inside:
            borders.setdefault(edge.number, []).append((2 * edge.end - 1, [edge.end], edge.start))
    for node in nodes:
        if node in flow.made:
            readers = flow.readers.get(node, [])
            borders.setdefault(flow.made[node], []).append((2 * node, readers, node))
    found = {}
    for number, places in borders.items():
        (_, first, _), (_, _, last) = min(places), max(places)
        between = _reached(first, flow.readers, inside) & _reached([last], flow.makers, inside)
        if len(between) < len(inside):
            found[number] = sorted(between)
    return found


def _reached(start: Sequence[int], ways: dict[int, list[int]], inside: set[int]) -> set[int]:
    found: set[int] = set()
    waiting = [node for node in start if node in inside]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += [other for other in ways.get(node, ()) if other in inside]
    return found


def _components(flow: _Flow, nodes: Sequence[int]) -> list[list[int]]:
    """Return the connected parts that hold a product; the others go along with their reader."""
    left, found = set(nodes), []
    both = {node: [*flow.readers.get(node, ()), *flow.makers.get(node, ())] for node in nodes}
    while left:
        part = _reached([min(left)], both, left)
        left -= part
        if flow.count(part):
            found.append(sorted(part))
    return found


def _take_along(nodes: Sequence[onnx.NodeProto], home: dict[int, int]) -> None:
    """Give each node without a block that of its reader, or else that of what it reads."""
    makers = {name: at for at, node in enumerate(nodes) for name in node.output if name}
    first_reader: dict[str, int] = {}
    for at in reversed(range(len(nodes))):
        if at not in home:
            readers = [first_reader[name] for name in nodes[at].output if name in first_reader]
            if readers:
                home[at] = home[min(readers)]
        if at in home:
            first_reader.update((name, at) for name in nodes[at].input)
    for at, node in enumerate(nodes):
        if at not in home:
            read = [home[makers[name]] for name in node.input if makers.get(name) in home]
            home[at] = read[-1] if read else -1
