"""Input normalisation as part of the graph: the model takes the pixels as the camera gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from hasten.compress.effect import Effect
from hasten.compress.step import Context, StepConfig, applied
from hasten.errors import RefusedError
from hasten.graph import Model, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

    from hasten.data import Preprocessing

__all__ = ["FoldInput", "apply", "fold_input", "normalised_tensor", "pixel_range"]

_IMAGE_RANK = 4
_PIXEL_MAX = 255
#: DequantizeLinear takes a scale per channel from here on.
_MIN_OPSET = 13
#: How far mean * 255 may be from a whole pixel: 4e-6 of the range from black to white.
_PIXEL_TOLERANCE = 1e-3


class FoldInput(StepConfig, frozen=True, tag="fold_input"):
    """Image inputs become uint8 NHWC pixels. No settings: what to fold, the samples declare."""

    effect: ClassVar[Effect] = Effect(takes="any", once=True, interface=True)


def apply(model: Model, config: FoldInput, context: Context) -> Model:
    """Fold the preprocessing that is declared for the samples; see ``fold_input``."""
    del config
    folded = fold_input(model, context.preprocessing)
    context.unfolded[folded.digest] = model
    return folded


def fold_input(model: Model, preprocessing: Mapping[str, Preprocessing]) -> Model:
    """Return the model with uint8 NHWC pixels for inputs, ``(pixels / 255 - mean) / std`` inside.

    Each input named in ``preprocessing``, float32 of [n, c, h, w] or [n, h, w, c], becomes uint8
    of [n, h, w, c] under the same name, a quarter of the bytes; free dimensions keep their names
    and other inputs stay as they are. Outputs equal those of the float path within 1e-5 of the
    range of the input.

    Raises RefusedError, with the reason, when no preprocessing is declared, the model is a .tflite
    or older than opset 13, or an input is not a float32 image of the declared channels, is used
    inside control flow, or is itself an output.
    """
    if not preprocessing:
        raise RefusedError("fold_input: no preprocessing is declared for any input")
    if model.format == "tflite":
        raise RefusedError("fold_input: a .tflite file has no ONNX graph to fold into")
    opset = next(o.version for o in model.graph.opset_import if o.domain in ("", "ai.onnx"))
    if opset < _MIN_OPSET:
        raise RefusedError(f"fold_input: needs opset {_MIN_OPSET} or later, the model has {opset}")
    for name, declared in preprocessing.items():
        _require_image(model, name, declared)
    proto = type(model.graph)()
    proto.CopyFrom(model.graph)
    for name, declared in preprocessing.items():
        _fold(proto.graph, name, declared)
    specs = tuple(
        _pixels(spec, preprocessing[spec.name]) if spec.name in preprocessing else spec
        for spec in model.signature.inputs
    )
    return model.evolve(proto, Signature(specs, model.signature.outputs), applied(FoldInput()))


def normalised_tensor(name: str) -> str:
    """Name of the float tensor, in the folded graph, that takes the place of the input ``name``."""
    return f"{name}_normalised"


def pixel_range(preprocessing: Preprocessing) -> tuple[float, float]:
    """Return (lowest, highest) value that uint8 pixels can take, over all channels.

    Exact, so that calibration need not look at ``normalised_tensor``.

    >>> from hasten.data.preprocessing import Preprocessing
    >>> pixel_range(Preprocessing((1, 1), mean=(0.5,), std=(0.25,), colour="gray"))
    (-2.0, 2.0)
    """
    ends = [
        (end - mean) / std
        for mean, std in zip(preprocessing.mean, preprocessing.std, strict=True)
        for end in (0.0, 1.0)
    ]
    return min(ends), max(ends)


def _require_image(model: Model, name: str, declared: Preprocessing) -> None:
    """Raise RefusedError unless this input can be replaced by pixels."""
    graph = model.graph.graph
    try:
        spec = model.signature.input(name)
    except KeyError:
        has = ", ".join(spec.name for spec in model.signature.inputs)
        raise RefusedError(f"fold_input: the model has no input '{name}', it has {has}") from None
    if spec.dtype != "float32" or len(spec.shape) != _IMAGE_RANK:
        raise RefusedError(f"fold_input: an image input is float32 of rank 4, not {spec}")
    channels = spec.shape[1 if declared.layout == "nchw" else 3]
    if channels not in (None, declared.channels):
        raise RefusedError(
            f"fold_input: {declared.layout} {declared.colour} has {declared.channels} channels,"
            f" the input is {spec}"
        )
    if any(output.name == name for output in graph.output):
        raise RefusedError(f"fold_input: the input '{name}' is itself an output")
    if any(name in inner.input for node in graph.node for inner in _inner_nodes(node)):
        raise RefusedError(f"fold_input: the input '{name}' is used inside control flow")
    taken = {tensor.name for tensor in graph.initializer}
    taken.update(output for node in graph.node for output in node.output)
    ours = (_prefix(name), normalised_tensor(name))
    clash = next((other for other in sorted(taken) if other.startswith(ours)), None)
    if clash is not None:
        raise RefusedError(f"fold_input: the graph already has a tensor '{clash}'")


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a node's subgraphs, at any depth."""
    for attribute in node.attribute:
        subgraphs = (
            [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs
        )
        for subgraph in subgraphs:
            for inner in subgraph.node:
                yield inner
                yield from _inner_nodes(inner)


def _pixels(spec: TensorSpec, declared: Preprocessing) -> TensorSpec:
    shape = tuple(spec.shape[axis] for axis in _channels_last(declared.layout))
    return TensorSpec(spec.name, "uint8", shape)


def _channels_last(layout: Literal["nchw", "nhwc"]) -> tuple[int, int, int, int]:
    """Where each axis of [n, h, w, c] stands in the layout."""
    return (0, 2, 3, 1) if layout == "nchw" else (0, 1, 2, 3)


def _fold(graph: onnx.GraphProto, name: str, declared: Preprocessing) -> None:
    """Put the preprocessing of one input in front of all that read it, in place."""
    import onnx

    tensor = next(entry for entry in graph.input if entry.name == name).type.tensor_type
    tensor.elem_type = onnx.TensorProto.UINT8
    given = onnx.TensorShapeProto()
    given.CopyFrom(tensor.shape)
    tensor.ClearField("shape")
    tensor.shape.dim.extend(given.dim[axis] for axis in _channels_last(declared.layout))

    normalised = normalised_tensor(name)
    for node in graph.node:
        node.input[:] = [normalised if entry == name else entry for entry in node.input]
    nodes, constants = _normalisation(name, declared)
    nodes[-1].output[0] = normalised
    for node in reversed(nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(constants)


def _normalisation(
    name: str, declared: Preprocessing
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes from pixels to floats and their constants; pixels are moved while they are bytes.

    Only a scale per tensor may feed the model directly, and the shift is a Sub, not an Add, which
    the QDQ writer would quantize: ONNX Runtime would fuse a scale per channel into a QLinearConv
    or QLinearAdd, and these do not take one.
    """
    from onnx import helper, numpy_helper

    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []
    prefix = _prefix(name)

    def constant(role: str, value: npt.ArrayLike, dtype: type[np.generic] = np.float32) -> str:
        tensor = numpy_helper.from_array(np.asarray(value, dtype), f"{prefix}_{role}")
        constants.append(tensor)
        return tensor.name

    def then(kind: str, *inputs: str, **attributes: Any) -> None:
        source = nodes[-1].output[0] if nodes else name
        out = f"{prefix}_{kind.lower()}"
        nodes.append(helper.make_node(kind, [source, *inputs], [out], out, **attributes))

    if declared.layout == "nchw":
        then("Transpose", perm=[0, 3, 1, 2])
    mean, std = np.asarray(declared.mean), np.asarray(declared.std)
    scale = 1 / (_PIXEL_MAX * std)
    zero_point = _zero_point(declared)
    if zero_point is not None:
        parameters = constant("scale", scale[0]), constant("zero_point", zero_point, np.uint8)
        then("DequantizeLinear", *parameters)
        return nodes, constants
    axis, along = (1, (-1, 1, 1)) if declared.layout == "nchw" else (3, (-1,))
    then("DequantizeLinear", constant("scale", scale), axis=axis)
    then("Sub", constant("shift", (mean / std).reshape(along)))
    return nodes, constants


def _prefix(name: str) -> str:
    """Begin the names of all that is added for an input.

    Not with ``normalised_tensor``: the QDQ writer appends its ``_scale`` to the names of tensors.
    """
    return f"{name}_pixels"


def _zero_point(declared: Preprocessing) -> int | None:
    """Return the pixel that becomes 0.0, if one does and all channels are scaled alike.

    Then the pixels already are a quantized tensor, and static int8 can take them as they are.
    """
    pixel = round(declared.mean[0] * _PIXEL_MAX)
    alike = len(set(declared.mean)) == 1 and len(set(declared.std)) == 1 and declared.std[0] > 0
    whole = abs(declared.mean[0] * _PIXEL_MAX - pixel) <= _PIXEL_TOLERANCE
    return pixel if alike and whole and 0 <= pixel <= _PIXEL_MAX else None
