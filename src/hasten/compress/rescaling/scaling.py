"""Rescaling channels: what each is multiplied by, and the same graph with that in its constants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hasten.compress.rescaling.flow import ChannelFlow, Linear
from hasten.compress.rescaling.rules import follow_channels

if TYPE_CHECKING:
    import onnx

__all__ = ["ChannelScaling"]

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class _Sizes:
    """The largest weight between each output channel and each input channel of a linear layer."""

    largest: _Floats
    bias: _Floats
    source: npt.NDArray[np.intp]
    target: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]


class ChannelScaling:
    """The constants of a graph that make and read its channels, and how large they are.

    ``free`` says which classes of channels (see ``ChannelFlow``) may be given a scale: those that
    something linear makes and something linear reads. A scale of ``s`` divides the channel by it.
    """

    def __init__(self, graph: onnx.ModelProto) -> None:
        self._graph = graph
        self.flow = follow_channels(graph)
        self._sizes = [self._sizes_of(linear) for linear in self.flow.linears]
        ones = np.ones(self.flow.size)
        made, read = self.produced(ones), self.consumed(ones)
        self.free: npt.NDArray[np.bool_] = (made > 0) & (read > 0)
        self.free[0] = False

    def produced(self, scales: _Floats) -> _Floats:
        """For each class, the largest weight or bias that makes such a channel; 0 for none."""
        found = np.zeros(self.flow.size)
        for one in self._sizes:
            inside = scales[one.source][one.columns]
            largest = np.maximum((one.largest * inside).max(axis=1, initial=0.0), one.bias)
            np.maximum.at(found, one.target, largest / scales[one.target])
        for norm in self.flow.norms:
            classes = self.flow.classes(norm.target)
            for name in norm.node.input[1:]:
                if name:
                    sizes = np.abs(self.flow.constants[name]).astype(np.float64)
                    np.maximum.at(found, classes, sizes / scales[classes])
        for addend in self.flow.addends:
            classes = self.flow.classes(addend.target)
            values = self.flow.constants[addend.node.input[addend.at]]
            sizes = _largest_along(values, addend.axis_from_end, classes.size)
            # Only what linear layers make, too, may be scaled: a sum alone is no producer.
            np.maximum.at(found, classes, np.where(found[classes] > 0, sizes / scales[classes], 0))
        return found

    def consumed(self, scales: _Floats) -> _Floats:
        """For each class, the largest weight that reads such a channel; 0 for none."""
        found = np.zeros(self.flow.size)
        for one in self._sizes:
            inside = scales[one.source][one.columns]
            np.maximum.at(
                found,
                one.source[one.columns],
                one.largest * inside / scales[one.target][:, np.newaxis],
            )
        return found

    def rescaled(self, scales: _Floats) -> onnx.ModelProto:
        """The graph with every channel divided by its scale: outputs stay what they were."""
        writer = _Constants(self._graph, self.flow)
        for linear in self.flow.linears:
            inside = scales[self.flow.classes(linear.source)]
            outside = scales[self.flow.classes(linear.target)]
            weight = self.flow.constants[linear.node.input[1]].astype(np.float64)
            rows = linear.rows(weight)  # a view, or a copy of one: written back through its shape
            scaled = rows * inside[linear.columns][:, :, np.newaxis]
            scaled = scaled / outside[:, np.newaxis, np.newaxis]
            writer.replace(linear.node, 1, _unrowed(linear, scaled, weight.shape))
            if len(linear.node.input) > 2 and linear.node.input[2]:  # noqa: PLR2004 - the bias
                bias = self.flow.constants[linear.node.input[2]]
                writer.replace(linear.node, 2, bias / outside)
        for norm in self.flow.norms:
            outside = scales[self.flow.classes(norm.target)]
            for at, name in enumerate(norm.node.input):
                if at and name:
                    writer.replace(norm.node, at, self.flow.constants[name] / outside)
        for addend in self.flow.addends:
            outside = scales[self.flow.classes(addend.target)]
            if (outside == 1).all():  # what is one for all channels needs no place for each
                continue
            along = outside.reshape(-1, *[1] * (addend.axis_from_end - 1))
            writer.replace(addend.node, addend.at, writer.current(addend.node, addend.at) / along)
        return writer.finish()

    def _sizes_of(self, linear: Linear) -> _Sizes:
        rows = np.abs(linear.rows(self.flow.constants[linear.node.input[1]]))
        bias = np.zeros(linear.target.size)
        for name in linear.node.input[2:3]:
            if name:
                bias = _largest_along(self.flow.constants[name], 1, linear.target.size)
        return _Sizes(
            rows.max(axis=2, initial=0.0).astype(np.float64),
            bias,
            self.flow.classes(linear.source),
            self.flow.classes(linear.target),
            linear.columns,
        )


class _Constants:
    """A copy of the graph whose constants are replaced, each for one reader alone."""

    def __init__(self, graph: onnx.ModelProto, flow: ChannelFlow) -> None:
        self._flow = flow
        self._copy = type(graph)()
        self._copy.CopyFrom(graph)
        self._nodes = {tuple(node.output): node for node in self._copy.graph.node}
        self._values: dict[str, npt.NDArray[Any]] = {}

    def current(self, node: onnx.NodeProto, at: int) -> npt.NDArray[Any]:
        """The constant as it is by now."""
        name = self._nodes[tuple(node.output)].input[at]
        return self._values[name] if name in self._values else self._flow.constants[name]

    def replace(self, node: onnx.NodeProto, at: int, value: npt.NDArray[Any]) -> None:
        """Give the node this constant; others that read the old one keep it."""
        own = self._nodes[tuple(node.output)]
        before = self.current(node, at)
        if value.shape == before.shape and np.array_equal(value.astype(before.dtype), before):
            return
        if self._flow.uses[node.input[at]] > 1:
            own.input[at] = f"{node.input[at]}_of_{node.output[0]}"
        self._values[own.input[at]] = value.astype(before.dtype)

    def finish(self) -> onnx.ModelProto:
        """Write the values and drop what nobody reads any longer."""
        from onnx import numpy_helper

        graph = self._copy.graph
        read = {name for node in graph.node for name in node.input}
        read |= {output.name for output in graph.output}
        kept = [
            tensor
            for tensor in graph.initializer
            if tensor.name in read and tensor.name not in self._values
        ]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        graph.initializer.extend(
            numpy_helper.from_array(np.ascontiguousarray(value), name)
            for name, value in self._values.items()
        )
        # Shape inference fails where a constant no longer has the shape that is on record.
        known = [value for value in graph.value_info if value.name not in self._values]
        del graph.value_info[:]
        graph.value_info.extend(known)
        return self._copy


def _unrowed(
    linear: Linear, rows: npt.NDArray[Any], shape: tuple[int, ...]
) -> npt.NDArray[np.float64]:
    """Put [out, in / groups, kernel] back into the weight's own shape."""
    weight = np.empty(shape)
    # The indices of a weight, arranged like its rows, say where each value belongs.
    places = linear.rows(np.arange(weight.size).reshape(shape))
    weight.reshape(-1)[places.reshape(-1)] = rows.reshape(-1)
    return weight


def _largest_along(values: npt.NDArray[Any], axis_from_end: int, size: int) -> _Floats:
    """The largest absolute value at each index of an axis, counted from the end."""
    sizes = np.abs(values).astype(np.float64)
    if sizes.ndim < axis_from_end or sizes.shape[-axis_from_end] == 1:
        return np.full(size, sizes.max(initial=0.0))
    axis = sizes.ndim - axis_from_end
    others = tuple(at for at in range(sizes.ndim) if at != axis)
    return np.asarray(sizes.max(axis=others, initial=0.0))
