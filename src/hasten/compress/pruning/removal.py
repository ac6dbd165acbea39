"""Taking channels out of a graph: what is left is a plain, smaller graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from hasten.compress.pruning.channels import FIXED, Ids, Untraceable
from hasten.compress.pruning.groups import ChannelMap, channel_map
from hasten.compress.pruning.operators import DIMS_INPUTS, is_depthwise
from hasten.errors import OptionError, RefusedError, one_line
from hasten.graph import attribute_of, drop_unused
from hasten.graph.operators import node_label

if TYPE_CHECKING:
    import onnx

__all__ = ["prune_groups", "pruned"]


def prune_groups(
    graph: onnx.ModelProto, keep: Mapping[str, Sequence[int] | Ids]
) -> onnx.ModelProto:
    """Return the graph with only these channels of each group that is named; others stay whole.

    ``keep`` gives indices below the group's size by its name, see ``channel_groups``. Raises
    OptionError for a name or an index that is not there, or a group that would be left empty.
    """
    return pruned(channel_map(graph), keep)


def pruned(found: ChannelMap, keep: Mapping[str, Sequence[int] | Ids]) -> onnx.ModelProto:
    """Do as ``prune_groups`` for a graph whose groups are known already."""
    import onnx

    for name, indices in keep.items():
        _require(found, name, np.asarray(indices))
    gone = found.gone(keep)
    graph = onnx.ModelProto()
    graph.CopyFrom(found.trace.graph)
    for node in graph.graph.node:
        _resize(graph, found, node, gone)
    for tensor in graph.graph.initializer:
        if tensor.name in found.trace.channels.layouts:
            _shrink(tensor, found, gone)
    drop_unused(graph.graph)
    _shrink_listed(graph.graph)
    return _with_shapes(graph)


def _require(found: ChannelMap, name: str, indices: npt.NDArray[np.int64]) -> None:
    if name not in found.by_name:
        raise OptionError(
            expected=f"a group of the graph: {', '.join(found.by_name)[:200]}",
            got=name,
            where="keep",
        )
    size = found.by_name[name].size
    if not indices.size or indices.min() < 0 or indices.max() >= size:
        got = f"{indices.min()}..{indices.max()}" if indices.size else "none"
        raise OptionError(
            expected=f"indices of channels from 0 to {size - 1}", got=got, where=f"keep: {name}"
        )


def _shrink(tensor: onnx.TensorProto, found: ChannelMap, gone: npt.NDArray[np.bool_]) -> None:
    from onnx import numpy_helper

    layout = found.trace.channels.layouts[tensor.name]
    if not any(ids is not None and gone[ids].any() for ids in layout):
        return
    array = numpy_helper.to_array(tensor)
    for axis, ids in enumerate(layout):
        if ids is not None:
            array = np.compress(~gone[ids], array, axis=axis)
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), tensor.name))


def _left(ids: Ids | None, gone: npt.NDArray[np.bool_]) -> int | None:
    """Return how many channels are left of an axis; None where none went."""
    if ids is None:
        return None
    lost = int(gone[ids[ids != FIXED]].sum())
    return len(ids) - lost if lost else None


def _resize(
    graph: onnx.ModelProto, found: ChannelMap, node: onnx.NodeProto, gone: npt.NDArray[np.bool_]
) -> None:
    """Change what a node itself says of numbers of channels, in place."""
    trace = found.trace
    if node in trace.opaque:
        return
    if node.op_type in {"Conv", "ConvTranspose"} and is_depthwise(trace, node):
        left = _left(trace.layout(node.input[0])[1], gone)
        if left is not None:
            (group,) = [one for one in node.attribute if one.name == "group"]
            group.i = left
    elif node.op_type == "Split":
        _resize_split(graph, found, node, gone)
    elif node.op_type in DIMS_INPUTS:
        _resize_dims(graph, found, node, gone)


def _resize_split(
    graph: onnx.ModelProto, found: ChannelMap, node: onnx.NodeProto, gone: npt.NDArray[np.bool_]
) -> None:
    axis = int(attribute_of(node, "axis", 0))
    layouts = [found.trace.layout(name) for name in node.output]
    left = [_left(layout[axis], gone) for layout in layouts]
    if all(size is None for size in left):
        return
    sizes = [
        found.trace.shape(name)[axis] if size is None else size
        for name, size in zip(node.output, left, strict=True)
    ]
    del node.input[1:]
    kept = [one for one in node.attribute if one.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    node.input.append(_constant(graph, f"{node_label(node)}_sizes", sizes))


def _resize_dims(
    graph: onnx.ModelProto, found: ChannelMap, node: onnx.NodeProto, gone: npt.NDArray[np.bool_]
) -> None:
    try:
        dims = found.trace.array(node.input[DIMS_INPUTS[node.op_type]]).tolist()
        layout = found.trace.layout(node.output[0])
    except (IndexError, Untraceable):  # sizes that are given otherwise follow by themselves
        return
    left = [_left(ids, gone) for ids in layout]
    if all(size is None for size in left) or len(dims) != len(left):
        return
    sizes = [
        old if size is None or old == -1 else size for old, size in zip(dims, left, strict=True)
    ]
    node.input[DIMS_INPUTS[node.op_type]] = _constant(graph, f"{node_label(node)}_dims", sizes)


def _constant(graph: onnx.ModelProto, name: str, values: Sequence[int | str | None]) -> str:
    """Add a constant of the node's own: the old one may be shared."""
    from onnx import numpy_helper

    taken = {tensor.name for tensor in graph.graph.initializer}
    while name in taken:
        name += "_"
    graph.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.int64), name))
    return name


def _shrink_listed(graph: onnx.GraphProto) -> None:
    """Give weights that old files list as inputs too the sizes that they have now."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in graph.input:
        if value.name in shapes:
            for dim, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
                dim.dim_value = size


def _with_shapes(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Infer the shapes anew, which also proves that all sizes fit each other."""
    from onnx import checker, shape_inference

    del graph.graph.value_info[:]
    try:
        shaped = shape_inference.infer_shapes(graph, strict_mode=True, data_prop=True)
        checker.check_model(shaped)
    except (shape_inference.InferenceError, checker.ValidationError, ValueError) as error:
        raise RefusedError(f"removing channels: {one_line(error)}") from error
    # Inference may know an output better than the graph says: that is not pruning's to change.
    del shaped.graph.output[:]
    shaped.graph.output.extend(graph.graph.output)
    return shaped
