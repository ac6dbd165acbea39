"""What of each output is trained: what it means, and the scores before a softmax that ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from hasten.data.answers import FIRST_AXIS, Answers, Output, SampleAxis
from hasten.data.meaning import Meaning, find_meanings
from hasten.errors import OptionError

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["TrainedOutput", "class_axis", "logits_of", "squashes", "trained_outputs"]

Squash = Literal["", "softmax", "sigmoid"]

#: Nodes through which scores go unchanged, but for rounding.
_TRANSPARENT = frozenset({"FakeQuantize", "Identity"})
_SQUASHING: dict[str, Squash] = {"Sigmoid": "sigmoid", "Softmax": "softmax"}

#: Kinds of outputs whose classes exclude one another.
_CLASSED = frozenset({"mask", "probabilities", "scores", "sequence"})


@dataclass(frozen=True)
class TrainedOutput:
    """An output of a model, and the tensor that is trained for it.

    That is what goes into the softmax or sigmoid, ``squash``, that ends it. ``samples`` is where
    samples stand in both. ``shape`` is that of some samples, told apart along a first axis;
    ``axis`` is where exclusive classes stand in it, counted from the end, None where there are
    none. ``spread`` is the variance of the reference over samples, in which values are compared;
    ``weight`` is the output's share of the loss.
    """

    name: str
    tensor: str
    meaning: Meaning
    shape: tuple[int, ...]
    axis: int | None = None
    squash: Squash = ""
    spread: float = 1.0
    weight: float = 1.0
    samples: SampleAxis = FIRST_AXIS

    def told_apart(self, values: torch.Tensor) -> torch.Tensor:
        """Return the output or tensor of a run with samples along the first axis."""
        axis, rows = self.samples
        if axis is None:
            return values[None]
        moved = values.movedim(axis, 0)
        return moved if rows == 1 else moved.unflatten(0, (-1, rows))


def class_axis(shape: Sequence[int]) -> int | None:
    """Return where classes stand in an output of this shape, where nothing else is known of it.

    [n, classes] and [n, steps, classes] have them last, images [n, classes, height, width] first.

    >>> [class_axis(shape) for shape in ([8, 10], [8, 20, 10], [8, 10, 32, 32], [8], [8, 1])]
    [-1, -1, 1, None, None]
    """
    image = 4
    at = 1 if len(shape) >= image else -1
    return at if len(shape) > 1 and shape[at] > 1 else None


def squashes(graph: onnx.ModelProto) -> dict[str, tuple[str, Squash]]:
    """Return for each output the tensor to train by, and what is done to it afterwards."""
    makers = {name: node for node in graph.graph.node for name in node.output}
    found: dict[str, tuple[str, Squash]] = {}
    for output in graph.graph.output:
        node = makers.get(output.name)
        while node is not None and node.op_type in _TRANSPARENT:
            node = makers.get(node.input[0])
        squash: Squash = "" if node is None else _SQUASHING.get(node.op_type, "")
        found[output.name] = (node.input[0] if node is not None and squash else output.name), squash
    return found


def logits_of(graph: onnx.ModelProto) -> list[str]:
    """Return the tensors to train by: outputs, or what goes into the softmax that ends one."""
    return list(dict.fromkeys(tensor for tensor, _ in squashes(graph).values()))


def trained_outputs(
    graph: onnx.ModelProto,
    training_graph: onnx.ModelProto,
    reference: Answers,
    weights: Mapping[str, float],
) -> list[TrainedOutput]:
    """Return what is trained of each output.

    ``reference`` holds the outputs for a few samples, of the teacher where there is one; ``graph``
    is the model's, ``training_graph`` that of the module. ``weights`` are those of outputs that do
    not count once. Raises OptionError for a weight of an output that is not there, or a negative.
    """
    for name, weight in weights.items():
        if name not in reference or not weight >= 0:
            near = get_close_matches(name, reference, 1) or list(reference)[:1]
            raise OptionError(
                expected="0 or more for an output of the model",
                got=f"{weight:g} for '{name}'",
                where="output_weights",
                hint="" if name in reference else f"did you mean {near[0]}?",
            )
    known = Answers({name: one for name, one in reference.items() if one.dtype.kind in "biuf"})
    meanings = find_meanings(known, graph)
    ends = squashes(training_graph)
    return [
        _output(meaning, known[name], *ends.get(name, (name, "")), weights.get(name, 1.0))
        for name, meaning in meanings.items()
        if known[name].dtype.kind == "f" and known[name].values is not None
    ]


def _output(
    meaning: Meaning, answers: Output, tensor: str, squash: Squash, weight: float
) -> TrainedOutput:
    values = np.asarray(answers.values)
    shape, axis = values.shape, None
    if meaning.kind in _CLASSED and meaning.exclusive and meaning.class_axis is not None:
        axis = meaning.class_axis
    if axis is not None and shape[axis] == 1:  # the softmax of one class is 1 whatever it is
        axis = None
    spread = _spread(values)
    return TrainedOutput(
        meaning.output, tensor, meaning, shape, axis, squash, spread, weight, answers.axis
    )


def _spread(values: NDArray[Any]) -> float:
    """Return the variance over samples, or over all values where samples are alike."""
    exact = np.asarray(values, np.float64)
    over_samples = float(exact.var(axis=0).mean()) if exact.ndim else 0.0
    spread = over_samples or float(exact.var())
    return spread if np.isfinite(spread) and spread > 0 else 1.0
