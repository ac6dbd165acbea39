"""Whether the time of a run depends on the values of its inputs, and not on their shapes alone.

A loop runs as often as an input says, and ``Range`` makes as many numbers. Where no value decides
how much there is to compute, runs of equal shapes take equal times, and one that was timed tells of
the others. What is not known to be so is taken to depend on values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.graph.operators import is_default_domain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import onnx

    from hasten.graph.tflite.program import Program

__all__ = ["program_depends_on_values", "time_depends_on_values"]

_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax"),
    *("ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
#: Inputs, by their places, that decide the shape of an output (onnx.ai/onnx/operators). What moves
#: elements about without making more of them is left out, but for what may make few of them many.
_SHAPING: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "DFT": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 3),
    "Range": (0, 1, 2),
    **dict.fromkeys(_REDUCTIONS, (1,)),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
#: Operators whose output is as long as the values of an input have it.
_COUNTING = frozenset(
    {
        *("Compress", "ImageDecoder", "NonMaxSuppression", "NonZero"),
        *("StringNormalizer", "StringSplit", "Unique"),
    }
)
#: How often a body runs, or which; what a sequence holds; how long a text is searched.
_FLOWING = frozenset({"If", "Loop", "Optional", "OptionalGetElement", "Scan", "SequenceMap"})
#: Operators that give nothing of their inputs' values away.
_OF_SHAPES = frozenset({"RANK", "SHAPE", "Shape", "Size"})
#: The same of TensorFlow Lite's builtin operators.
_TFLITE_SHAPING: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("BROADCAST_TO", "EXPAND_DIMS", "ONE_HOT", "PAD", "PADV2", "RESHAPE"), (1,)),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "TILE", "TOPK_V2"), (1,)),
    **dict.fromkeys(("RANGE", "SPARSE_TO_DENSE"), (0, 1, 2)),
    **dict.fromkeys(("CONV_3D_TRANSPOSE", "FILL", "RANDOM_UNIFORM", "TRANSPOSE_CONV"), (0,)),
    **dict.fromkeys(("RANDOM_STANDARD_NORMAL", "MULTINOMIAL"), (0, 1)),
    **dict.fromkeys(
        ("BATCH_TO_SPACE_ND", "SPACE_TO_BATCH_ND", "SLICE", "STRIDED_SLICE"), (1, 2, 3)
    ),
    **dict.fromkeys(("RFFT2D", "MIRROR_PAD", "SEGMENT_SUM"), (1,)),
    "UNSORTED_SEGMENT_SUM": (2,),
}
_TFLITE_COUNTING = frozenset(
    {"NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5", "UNIQUE", "WHERE"}
)
_TFLITE_FLOWING = frozenset({"CALL", "CALL_ONCE", "CUSTOM", "DELEGATE", "IF", "WHILE"})
_DOMAINS = frozenset({"ai.onnx.ml", "com.microsoft"})
_GENERATING = frozenset({"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})


def time_depends_on_values(proto: onnx.ModelProto) -> bool:
    """Whether runs of inputs of equal shapes may take unlike times. Weights are not looked at.

    >>> from onnx import helper, TensorProto
    >>> x = helper.make_tensor_value_info("x", TensorProto.INT64, [1])
    >>> y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])
    >>> def made(*nodes):
    ...     return helper.make_model(helper.make_graph(nodes, "g", [x], [y]))
    >>> zeros = helper.make_node("ConstantOfShape", ["n"], ["y"])
    >>> time_depends_on_values(made(helper.make_node("Identity", ["x"], ["n"]), zeros))
    True
    >>> time_depends_on_values(made(helper.make_node("Shape", ["x"], ["n"]), zeros))
    False
    """
    if proto.functions or any(_is_unknown(node) for node in proto.graph.node):
        return True
    fixed = {one.name for one in proto.graph.initializer}
    told = {one.name for one in proto.graph.input} - fixed
    nodes = [(node.op_type, node.input, node.output) for node in proto.graph.node]
    return _depends(nodes, told, _SHAPING, _COUNTING)


def _is_unknown(node: onnx.NodeProto) -> bool:
    """Whether nothing is known of a node's time, or that it may be any."""
    kind = node.op_type
    if is_default_domain(node.domain):
        return kind in _FLOWING or kind.startswith("Sequence") or kind.endswith("Sequence")
    return node.domain not in _DOMAINS or kind in _GENERATING


def program_depends_on_values(program: Program) -> bool:
    """Tell the same of a program of TensorFlow Lite."""
    kinds = {one.kind for one in program.operators}
    if any(kind in _TFLITE_FLOWING or kind.startswith("STABLEHLO") for kind in kinds):
        return True
    nodes = [
        (one.kind, [str(at) for at in one.inputs], [str(at) for at in one.outputs])
        for one in program.operators
    ]
    told = {str(at) for at in program.inputs}
    return _depends(nodes, told, _TFLITE_SHAPING, _TFLITE_COUNTING)


def _depends(
    nodes: Iterable[tuple[str, Sequence[str], Sequence[str]]],
    told: set[str],
    shaping: Mapping[str, tuple[int, ...]],
    counting: frozenset[str],
) -> bool:
    """Go through nodes in their order; ``told`` are values that depend on those of inputs."""
    for kind, inputs, outputs in nodes:
        taken = [name in told for name in inputs]
        if kind in counting and any(taken):
            return True
        if any(taken[at : at + 1] == [True] for at in shaping.get(kind, ())):
            return True
        if any(taken) and kind not in _OF_SHAPES:
            told.update(outputs)
    return False
