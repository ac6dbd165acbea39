"""DepthToSpace and SpaceToDepth: channels that become places, and back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hasten.runtimes.litert.lowering import layout
from hasten.runtimes.litert.lowering.builder import Builder, Value
from hasten.runtimes.litert.lowering.composition import casted, ordered
from hasten.runtimes.litert.lowering.node import Node
from hasten.runtimes.litert.lowering.operators.table import Lowering
from hasten.runtimes.litert.lowering.unsupported import Unsupported

__all__ = ["OPERATORS"]

#: Dtypes that kernels take for quantized values.
_NARROW = frozenset(np.dtype(kind) for kind in (np.int8, np.uint8, np.int16))


def _depth_to_space(node: Node, to: Builder) -> None:
    """TFLite has places before channels (DCR); for the other order channels are moved before."""
    value, block = to.value(node.input(0)), node.attribute("blocksize")
    value = ordered(to, value, layout.channels_last(4))
    if node.attribute("mode", "DCR") == "CRD":
        value = _channels(to, value, block * block, last=True)
    to.bind_value(node.outputs[0], _moved(to, "DEPTH_TO_SPACE", node, value))


def _space_to_depth(node: Node, to: Builder) -> None:
    """The way back."""
    value, block = to.value(node.input(0)), node.attribute("blocksize")
    value = ordered(to, value, layout.channels_last(4))
    made = _moved(to, "SPACE_TO_DEPTH", node, value)
    if node.attribute("mode", "DCR") == "CRD":
        made = _channels(to, made, block * block, last=False)
    to.bind_value(node.outputs[0], made)


def _moved(to: Builder, kind: str, node: Node, value: Value) -> Value:
    """Integers without a scale that kernels would take for quantized ones go as 32 bits."""
    found, dtype = value.tensor.quantization, value.dtype
    if found is not None and not found.per_tensor:
        raise Unsupported("is quantized per channel")
    if found is None and dtype in _NARROW:
        value = casted(to, value, np.int32)
    if found is not None and value.tensor.dtype != np.int8:
        value = to.real(value)
    if value.tensor.dtype not in {np.dtype(one) for one in ("float32", "int8", "int32", "int64")}:
        raise Unsupported(f"moves {value.tensor.dtype}")
    shape = layout.apply(value.perm, node.shape)
    block = node.attribute("blocksize")
    made = replace(
        value, tensor=to.emit(kind, [value.tensor], shape, like=value.tensor, blockSize=block)
    )
    return made if found is not None else casted(to, made, dtype)


def _channels(to: Builder, value: Value, places: int, *, last: bool) -> Value:
    """Channels, stored last, where those of a place lie side by side, or one place's apart."""
    *outer, channels = value.tensor.shape
    sizes = (channels // places, places) if last else (places, channels // places)
    rows = int(np.prod(outer, dtype=np.int64))
    flat = to.reshaped(value.tensor, (rows, *sizes))
    turned = to.emit("TRANSPOSE", [flat, to.sizes(0, 2, 1)], (rows, *sizes[::-1]), like=flat)
    return replace(value, tensor=to.reshaped(turned, value.tensor.shape))


OPERATORS: dict[str, Lowering] = {"DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth}
