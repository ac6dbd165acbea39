"""Convolutions, pools and their like, which know of the first axis that it holds samples."""

from __future__ import annotations

from collections.abc import Sequence

from hasten.graph.rows.node import Node, Undecided
from hasten.graph.rows.rules.rule import Rule, Shapes
from hasten.graph.rows.tensor import FIXED, Flow, Rows

__all__ = ["RULES"]

_LINES_RANK = 2
#: Attention's mask: with fewer axes the first is not that of samples.
_MASK, _MASK_RANK = 3, 4

#: The first axis of their first input holds samples, and of each output; nothing else has any.
_FIRST_INPUT = """
    AveragePool BatchNormalization Col2Im Conv ConvInteger ConvTranspose GlobalAveragePool
    GlobalLpPool GlobalMaxPool GroupNormalization InstanceNormalization LRN LpPool MaxPool
    QLinearConv
""".split()  # noqa: SIM905
#: So it is with the first axis of all inputs that grow with the rows.
_ALL_INPUTS = """
    GridSample MaxUnpool AffineGrid Attention RotaryEmbedding STFT
""".split()  # noqa: SIM905
#: Of ONNX's machine learning set: one sample a line, where there are lines.
_MACHINE_LEARNING = """
    ArrayFeatureExtractor FeatureVectorizer Imputer LinearClassifier LinearRegressor Normalizer
    OneHotEncoder Scaler SVMClassifier SVMRegressor TreeEnsemble TreeEnsembleClassifier
    TreeEnsembleRegressor
""".split()  # noqa: SIM905


def _first_input(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    if any(node.rows(at) for at in range(1, len(node.inputs))):
        raise Undecided("weights of their own for each row")
    if node.proto.op_type == "BatchNormalization" and node.attribute("training_mode", 0):
        return node.joined("takes mean and variance of all rows")
    return _at_first(node, node.rows(0))


def _lines(node: Node, made: Sequence[Shapes]) -> Flow:
    """Operators that take a vector for the values of one sample, and a matrix for many samples."""
    if node.rank(0) < _LINES_RANK:
        raise Undecided("a vector may be one sample or many")
    return _first_input(node, made)


def _all_inputs(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    found = {node.rows(at) for at in range(len(node.inputs))} - {None}
    if len(found) > 1:
        return node.joined("meets rows along one axis with rows along another")
    if node.proto.op_type == "Attention" and node.rows(_MASK) and node.rank(_MASK) < _MASK_RANK:
        return node.joined("takes the axis of rows for that of queries")
    return _at_first(node, found.pop() if found else None)


def _at_first(node: Node, rows: Rows | None) -> Flow:
    if rows is not None and rows.axis:
        return node.joined("takes the axis of rows for another than that of samples")
    return rows or FIXED


def _det(node: Node, made: Sequence[Shapes]) -> Flow:
    del made
    return node.stays((-2, -1), "takes rows for those of a matrix")


def _resize(node: Node, made: Sequence[Shapes]) -> Flow:
    rows = node.rows(0)
    if rows is None:
        return FIXED
    if node.attribute("coordinate_transformation_mode", b"") == b"tf_crop_and_resize":
        raise Undecided("it crops")
    same = all(
        before[rows.axis] == after[rows.axis]
        for before, after in zip(node.shapes(0), made[0], strict=True)
    )
    return rows if same else node.joined("stretches the axis of rows")


RULES: dict[tuple[str, str], Rule] = {
    **{("", name): _first_input for name in _FIRST_INPUT},
    **{("", name): _all_inputs for name in _ALL_INPUTS},
    **{("ai.onnx.ml", name): _lines for name in _MACHINE_LEARNING},
    ("", "TfIdfVectorizer"): _lines,
    ("", "Det"): _det,
    ("", "Resize"): _resize,
    ("", "Upsample"): _resize,
}
