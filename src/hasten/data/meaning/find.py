"""Which kind each output is, found from operators, values and shapes, in this order of weight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hasten.data.answers import Answers, Output
from hasten.data.meaning.box_layout import boxes_with_scores
from hasten.data.meaning.kind import Meaning, OutputKind
from hasten.data.meaning.look import Look, box_format, look_at
from hasten.data.meaning.origin import Origin, origins
from hasten.data.meaning.require import require_fit
from hasten.errors import OptionError

if TYPE_CHECKING:
    import onnx

__all__ = ["find_meanings"]

_BOX = 4
#: Fewer numbers along an axis are columns of a table and not a picture or a feature.
_PICTURE = 8
_FEATURES = 16
_LONG = 1000
#: Detections carry their corners, a score and a class, and some the number of their image.
_COLUMNS = range(4, 8)
_A_ROW = "one row of values a sample"
#: Integers that stand for real numbers on a scale: what a quantized .tflite gives.
_NARROW = frozenset({"int8", "uint8", "int16", "uint16"})
_BOX_WORDS = frozenset({"bbox", "bboxe", "box", "boxe", "rect", "regressor", "loc"})
_FEATURE_WORDS = frozenset({"embedding", "embed", "feature", "hidden", "pooler", "vector"})
_SCORE_WORDS = frozenset({"class", "classe", "cls", "logit", "prob", "probability", "score"})
_VALUE_WORDS = frozenset(
    {"age", "angle", "coord", "coordinate", "depth", "joint", "keypoint", "landmark", "offset"}
    | {"pose", "position", "price", "quaternion", "regression", "rotation", "translation"}
)
#: What ends a network of features: their mean, or a squashed token.
_POOLED = frozenset({"GlobalAveragePool", "ReduceMean", "Tanh"})
#: So few values that no layer made may be quantities as well as classes.
_FEW = 4
_SEQUENCE_WORDS = frozenset({"ctc", "logit", "token"})

Rule = Callable[[Look], Meaning | None]


def find_meanings(
    answers: Answers,
    graph: onnx.ModelProto | None = None,
    wanted: Mapping[str, OutputKind] | None = None,
    inputs: Sequence[tuple[int | None, ...]] = (),
) -> dict[str, Meaning]:
    """Return what each output is, by name, in the model's order.

    ``answers`` are the reference's, ``graph`` its graph where it has one, ``wanted`` the kinds that
    the user gave, and ``inputs`` the shapes of the model's inputs. Raises OptionError for an output
    that is not there, and for a kind that it cannot be.
    """
    wanted = wanted or {}
    for name in wanted:
        if name not in answers:
            got = ", ".join(f"'{one}'" for one in answers)
            raise OptionError(
                expected=f"one of the outputs {got}", got=repr(name), where="--output"
            )
    known = origins(graph) if graph is not None else {}
    found: dict[str, Meaning] = {}
    for name, output in answers.items():
        seen = look_at(output, known.get(name, Origin()))
        found[name] = _meaning(output, seen, wanted.get(name), known.get(name, Origin()), inputs)
    return _paired(_beside_probabilities(found), answers)


def _meaning(
    output: Output,
    seen: Look | None,
    wanted: OutputKind | None,
    origin: Origin,
    inputs: Sequence[tuple[int | None, ...]],
) -> Meaning:
    if wanted is not None:
        return require_fit(output, seen, wanted)
    if output.dtype.kind not in "biuf":
        return Meaning(output.name, "text", "no numbers")
    if seen is None:
        return _of_varying_size(output, origin)
    rules: list[Rule] = [*_RULES, partial(_image, inputs=inputs)]
    if output.dtype.kind in "biu":
        is_scale = output.dtype.name in _NARROW
        rules = [_class_map, *rules] if is_scale else [_of_integers]
    found = (rule(seen) for rule in rules)
    decided = next((meaning for meaning in found if meaning is not None), None)
    return decided or Meaning(output.name, "regression", "nothing says what its values mean")


def _of_varying_size(output: Output, origin: Origin) -> Meaning:
    """Say what an output is whose size depends on the sample."""
    name, parts = output.name, [part for part in output.parts if part.size]
    if output.dtype.kind != "f" or not parts:
        return Meaning(name, "text", "integers of varying number")
    width = parts[0].shape[-1] if parts[0].ndim else 1
    rank = parts[0].ndim
    is_table = rank == 2 and all(part.shape[-1] == width for part in parts)  # noqa: PLR2004
    if is_table and width in _COLUMNS:
        table = np.concatenate(parts).astype(np.float64)
        for start in range(width - _BOX + 1):
            written = box_format(table[:, start : start + _BOX])
            if written is not None:
                why = f"rows of {width} numbers, as many as are found"
                return Meaning(name, "detections", why, box_start=start, box_format=written)
    if is_table and (origin.linear or origin.operator in {"Softmax", "LogSoftmax"}):
        return Meaning(name, "sequence", "class scores over a varying time", class_axis=-1)
    return Meaning(name, "regression", "values of varying number")


def _of_integers(seen: Look) -> Meaning:
    rank = len(seen.item)
    if rank >= 2 and min(seen.item[-2:]) >= _PICTURE:  # noqa: PLR2004 - height and width
        return Meaning(seen.name, "mask", "a class for each place")
    return Meaning(seen.name, "text", "integers")


def _class_map(seen: Look) -> Meaning | None:
    """Integers of 8 bits that are classes over a picture, and not real numbers on a scale."""
    is_picture = len(seen.item) == 2 and min(seen.item) >= _PICTURE  # noqa: PLR2004 - a plane
    if is_picture and seen.origin.operator == "ArgMax":
        return Meaning(seen.name, "mask", "a class for each place")
    return None


# The rules, of which the first that knows decides


def _alone(seen: Look) -> Meaning | None:
    """One value a sample."""
    if seen.item:
        return None
    if seen.within_one and seen.origin.operator in {"Sigmoid", "HardSigmoid", "Softmax"}:
        return Meaning(seen.name, "probabilities", "one value a sample, of a sigmoid", None, False)
    return Meaning(seen.name, "regression", "one value a sample")


def _softmax(seen: Look) -> Meaning | None:
    """Values that sum to 1 along an axis."""
    at = seen.exclusive_axis
    if at is None:
        return None
    axis, rank = seen.axes[at], len(seen.item)
    why = f"sums to 1 along axis {axis}"
    if rank >= 3 and at == 0:  # noqa: PLR2004 - [classes, height, width]
        return Meaning(seen.name, "mask", why, axis)
    if rank == 2 and at == 1 and _is_over_time(seen):  # noqa: PLR2004 - [steps, classes]
        return Meaning(seen.name, "sequence", f"{why}, over steps", axis)
    if rank == 3 and at == 2 and min(seen.item[:2]) >= _PICTURE:  # noqa: PLR2004 - channels last
        return Meaning(seen.name, "mask", why, axis)
    return Meaning(seen.name, "probabilities", why, axis)


def _boxes(seen: Look) -> Meaning | None:
    """Rows of four numbers that are boxes, where the name says so."""
    if len(seen.item) != 2 or seen.item[-1] != _BOX:  # noqa: PLR2004 - boxes and their corners
        return None
    written = box_format(seen.values)
    if written is None or _BOX_WORDS.isdisjoint(seen.words):
        return None
    return Meaning(seen.name, "boxes", "rows of four, as its name says", box_format=written)


def _directions(seen: Look) -> Meaning | None:
    """Features without a scale: of length one, or behind a norm, or called so."""
    if not seen.item or len(seen.item) > 2 or seen.item[-1] < _FEATURES:  # noqa: PLR2004
        return None
    if seen.of_length_one:
        return Meaning(seen.name, "embedding", "rows of length one", seen.axes[-1])
    if seen.origin.normalised:
        return Meaning(seen.name, "embedding", "behind a norm", seen.axes[-1])
    if not _FEATURE_WORDS.isdisjoint(seen.words):
        return Meaning(seen.name, "embedding", "as its name says", seen.axes[-1])
    return None


def _independent(seen: Look) -> Meaning | None:
    """Sigmoids: any number of classes at once, or a picture of them."""
    if seen.origin.operator not in {"Sigmoid", "HardSigmoid"} or not seen.within_one:
        return None
    if len(seen.item) >= 2 and min(seen.item[-2:]) >= _PICTURE:  # noqa: PLR2004 - a picture
        return Meaning(seen.name, "mask", "sigmoids over a picture", exclusive=False)
    axis = seen.axes[-1]
    return Meaning(seen.name, "probabilities", "sigmoids", axis, exclusive=False)


def _sound(seen: Look) -> Meaning | None:
    """Long rows of values that no layer of classes made."""
    is_row = len(seen.item) == 1 or (len(seen.item) == 2 and seen.item[0] < _PICTURE)  # noqa: PLR2004
    if not is_row or seen.item[-1] < _LONG or seen.origin.operator in {"Gemm", "MatMul", "Add"}:
        return None
    return Meaning(seen.name, "waveform", f"{seen.item[-1]} values a row")


def _scores_of_samples(seen: Look) -> Meaning | None:
    """One row of values a sample."""
    if len(seen.item) != 1:
        return None
    name, operator, axis = seen.name, seen.origin.operator, seen.axes[-1]
    if not _VALUE_WORDS.isdisjoint(seen.words):
        return Meaning(name, "regression", "values, as its name says")
    if operator in _POOLED and seen.item[0] >= _FEATURES:
        return Meaning(name, "embedding", f"features, made by {operator}", axis)
    if not seen.decides:
        return Meaning(name, "regression", "its largest value is always the same one")
    named = not _SCORE_WORDS.isdisjoint(seen.words)
    if named or seen.origin.linear or not operator or seen.item[0] > _FEW:
        return Meaning(name, "scores", _A_ROW, axis)
    return Meaning(name, "regression", f"{seen.item[0]} values a sample, made by {operator}")


def _scores_over_time(seen: Look) -> Meaning | None:
    """Rows that a layer made, one a step."""
    if len(seen.item) != 2:  # noqa: PLR2004 - [steps, classes]
        return None
    if seen.origin.linear or _is_over_time(seen):
        if _is_over_time(seen):
            return Meaning(seen.name, "sequence", "a layer's scores over steps", seen.axes[-1])
        return Meaning(seen.name, "scores", "a layer's scores, a row each", seen.axes[-1])
    if seen.origin.operator == "Add" and seen.item[-1] >= _FEATURES:
        return Meaning(seen.name, "embedding", "a sum of features", seen.axes[-1])
    return None


_RULES: tuple[Rule, ...] = (
    _alone,
    _softmax,
    boxes_with_scores,
    _boxes,
    _directions,
    _independent,
    _sound,
    _scores_of_samples,
    _scores_over_time,
)


def _image(seen: Look, inputs: Sequence[tuple[int | None, ...]]) -> Meaning | None:
    """Return the classes of a picture's places, unless the picture is one itself."""
    if len(seen.item) != 3 or not (seen.origin.linear or seen.origin.resized):  # noqa: PLR2004
        return None
    first = seen.item[0] <= seen.item[-1]
    channels = seen.item[0] if first else seen.item[-1]
    places = seen.item[1:] if first else seen.item[:2]
    of_inputs = [shape for shape in inputs if len(shape) == 4]  # noqa: PLR2004 - a batch of images
    same_channels = any(channels in {shape[1], shape[-1]} for shape in of_inputs)
    whole = seen.origin.resized or any(
        all(size in shape[1:] for size in places) for shape in of_inputs
    )
    if same_channels or not whole or min(places) < _PICTURE:
        return None
    return Meaning(
        seen.name, "mask", "a layer's scores for each place", seen.axes[0 if first else -1]
    )


def _is_over_time(seen: Look) -> bool:
    """Whether the first axis of [steps, classes] is time: the layout or the operators say so."""
    named = not _SEQUENCE_WORDS.isdisjoint(seen.words)
    return seen.steps_first or seen.origin.recurrent or named


def _beside_probabilities(found: dict[str, Meaning]) -> dict[str, Meaning]:
    """Take rows of values for values where another output has a softmax: these were given none."""
    softmaxed = [name for name, one in found.items() if one.kind in {"probabilities", "mask"}]
    if not any(found[name].exclusive and found[name].why != "given" for name in softmaxed):
        return found
    return {
        name: msgspec.structs.replace(
            one,
            kind="regression",
            class_axis=None,
            why=f"values beside the classes of {softmaxed[0]}",
        )
        if one.kind == "scores" and one.why == _A_ROW
        else one
        for name, one in found.items()
    }


def _paired(found: dict[str, Meaning], answers: Answers) -> dict[str, Meaning]:
    """Give boxes the scores that go with them, and take rows of four beside scores for boxes."""
    shapes = {name: one.values.shape[1:] for name, one in answers.items() if one.values is not None}
    for name, shape in shapes.items():
        if not shape or shape[-1] != _BOX or len(shape) < 2:  # noqa: PLR2004 - boxes, corners
            continue
        if found[name].kind not in {"boxes", "regression", "scores", "probabilities", "sequence"}:
            continue
        others = [
            other for other in shapes if other != name and _scores(found, shapes, other, shape)
        ]
        if found[name].why == "given" and found[name].kind != "boxes":
            continue
        written = box_format(np.asarray(answers[name].parts[0], np.float64))
        if not others or written is None:
            continue
        why = found[name].why if found[name].kind == "boxes" else f"rows of four beside {others[0]}"
        found[name] = Meaning(name, "boxes", why, box_format=written, scored_by=others[0])
        scored = found[others[0]]
        if scored.kind == "sequence" and scored.why != "given":
            found[others[0]] = msgspec.structs.replace(scored, kind="scores", why="scores of boxes")
    return found


def _scores(
    found: Mapping[str, Meaning],
    shapes: Mapping[str, tuple[int, ...]],
    other: str,
    boxes: tuple[int, ...],
) -> bool:
    """Whether another output holds scores of these boxes: as many rows, and no rows of four."""
    shape = shapes[other]
    as_many = len(shape) >= len(boxes) - 1 and shape[: len(boxes) - 1] == boxes[:-1]
    kinds = {"scores", "probabilities", "sequence", "regression"}
    return as_many and found[other].kind in kinds and shape[len(boxes) - 1 :] != (_BOX,)
