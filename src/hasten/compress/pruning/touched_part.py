"""The part of a graph that a group of channels goes through, as a model of its own to be timed."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.pruning.channels import FIXED, Layout
from hasten.compress.pruning.groups import ChannelMap

if TYPE_CHECKING:
    import onnx

__all__ = ["part", "touched_nodes"]


def touched_nodes(found: ChannelMap, name: str) -> list[int]:
    """Return which nodes make, take or pass the channels of a group, by their places."""
    trace = found.trace
    at = found.groups.index(found.by_name[name])
    inside = found.places[:, 0] == at

    def holds(layout: Layout | None) -> bool:
        return layout is not None and any(
            ids is not None and bool(np.any(inside[ids[ids != FIXED]])) for ids in layout
        )

    layouts = {**trace.channels.layouts, **trace.layouts}
    return [
        place
        for place, node in enumerate(trace.graph.graph.node)
        if any(holds(layouts.get(tensor)) for tensor in (*node.input, *node.output))
    ]


def part(graph: onnx.ModelProto, nodes: Collection[int]) -> onnx.ModelProto:
    """Return a model of these nodes alone; what they take from others are its inputs.

    ``graph`` has its shapes inferred. What the nodes give to others are the outputs.
    """
    from onnx import helper

    whole = graph.graph
    inner = [whole.node[place] for place in nodes]
    others = [node for place, node in enumerate(whole.node) if place not in set(nodes)]
    constants = {tensor.name: tensor for tensor in whole.initializer}
    values = {value.name: value for value in (*whole.input, *whole.value_info, *whole.output)}
    made = [name for node in inner for name in node.output if name]
    read = list(dict.fromkeys(name for node in inner for name in node.input if name))
    wanted = {name for node in others for name in node.input}
    wanted.update(value.name for value in whole.output)
    unread = set(made) - set(read)
    return helper.make_model(
        helper.make_graph(
            inner,
            "part",
            [values[name] for name in read if name not in constants and name not in set(made)],
            [values[name] for name in made if name in wanted or name in unread],
            initializer=[constants[name] for name in read if name in constants],
        ),
        opset_imports=graph.opset_import,
        ir_version=graph.ir_version,
    )
