"""If, Loop and Scan: their bodies are gone through as if they stood in the graph around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from hasten.graph.rows.node import Mixed, Node, Undecided
from hasten.graph.rows.tensor import Fixed, Flow, Joined, Rows, Shape, Sized, Tensor, Unclear

if TYPE_CHECKING:
    import onnx

__all__ = ["CONTROL_FLOW", "Body", "through_control_flow"]

#: Goes through a body with what is known of its inputs; returns what is known of its outputs.
Body: TypeAlias = "Callable[[onnx.GraphProto, Sequence[Tensor]], list[Tensor]]"

CONTROL_FLOW = frozenset({"If", "Loop", "Scan"})

#: A Loop's inputs before those it carries on, and its body's; a body gives its condition first.
_BEFORE_CARRIED = 2


def through_control_flow(node: Node, through: Body) -> list[Tensor]:
    """Return what is known of each output; raises Undecided where the bodies do not tell."""
    kind = node.proto.op_type
    if kind == "If":
        return _branches(node, through)
    if kind == "Loop":
        return _loop(node, through)
    return _scan(node, through)


def _branches(node: Node, through: Body) -> list[Tensor]:
    condition = node.tensor(0)
    _require_common(condition)
    taken = condition.value if condition is not None else None
    names = ["then_branch", "else_branch"]
    if taken is not None and taken.size == 1:
        names = ["then_branch" if taken.reshape(-1)[0] else "else_branch"]
    found = [through(node.attribute(name), []) for name in names]
    if len(found) == 1:
        return found[0]
    return [_either(one, other) for one, other in zip(*found, strict=True)]


def _loop(node: Node, through: Body) -> list[Tensor]:
    """A body that leaves what it carries on as it was, as rows go, may be run any number of times.

    How many times must not depend on what rows hold.
    """
    for at in range(_BEFORE_CARRIED):
        _require_common(node.tensor(at))
    body = node.attribute("body")
    carried = _given(node, range(_BEFORE_CARRIED, len(node.inputs)))
    number = _scalar("INT64")
    made = through(body, [number, _scalar("BOOL"), *carried])
    condition, after = made[0], made[1 : 1 + len(carried)]
    _require_common(condition)
    stays = _carried_on(carried, after)
    if any(one is not two for one, two in zip(stays, carried, strict=True)):
        made = through(body, [number, _scalar("BOOL"), *stays])
        again = _carried_on(stays, made[1 : 1 + len(carried)])
        if any(one.flow != two.flow for one, two in zip(again, stays, strict=True)):
            raise Undecided("what it carries on changes from run to run")
        _require_common(made[0])
    stacked = [_stacked(tensor) for tensor in made[1 + len(carried) :]]
    return [*stays, *stacked]


def _scan(node: Node, through: Body) -> list[Tensor]:
    body = node.attribute("body")
    scanned = int(node.attribute("num_scan_inputs"))
    kept = len(node.inputs) - scanned
    states, given = _given(node, range(kept)), _given(node, range(kept, len(node.inputs)))
    axes = node.attribute("scan_input_axes") or [0] * scanned
    slices = [_slice(one, axis) for one, axis in zip(given, axes, strict=True)]
    made = through(body, [*states, *slices])
    stays = _carried_on(states, made[:kept])
    if any(one is not two for one, two in zip(stays, states, strict=True)):
        made = through(body, [*stays, *slices])
        again = _carried_on(stays, made[:kept])
        if any(one.flow != two.flow for one, two in zip(again, stays, strict=True)):
            raise Undecided("what it carries on changes from step to step")
    outputs = made[kept:]
    length = given[0].shapes if given else None
    if length is None:
        raise Undecided("a shape is not known")
    first = axes[0] % len(length[0])
    steps = (length[0][first], length[1][first])
    places = node.attribute("scan_output_axes") or [0] * len(outputs)
    return [
        *stays,
        *(_stacked(one, axis, steps) for one, axis in zip(outputs, places, strict=True)),
    ]


def _given(node: Node, places: Sequence[int]) -> list[Tensor]:
    found = []
    for at in places:
        tensor = node.tensor(at)
        if tensor is None:
            raise Undecided("an input that it carries on is left out")
        found.append(tensor)
    return found


def _scalar(kind: str) -> Tensor:
    from onnx import TensorProto, helper

    return Tensor(helper.make_tensor_type_proto(getattr(TensorProto, kind), []), ((), ()), Fixed())


def _require_common(tensor: Tensor | None) -> None:
    """Raise unless what decides how often or whether a body runs is the same for all rows."""
    if tensor is None or isinstance(tensor.flow, Fixed):
        return
    if isinstance(tensor.flow, Joined):
        raise Mixed("decides for all rows by what some hold")
    if isinstance(tensor.flow, Rows):
        raise Mixed("decides for all rows by one")
    raise Undecided("its condition depends on the number of rows or is not known")


def _carried_on(before: Sequence[Tensor], after: Sequence[Tensor]) -> list[Tensor]:
    """Return what holds of a carried tensor before and after a run; itself where nothing changed.

    A constant to begin with, such as a sum's zero, takes over the rows that are put into it.
    """
    return [
        one
        if one.flow == two.flow and one.shapes == two.shapes and one.values is None
        else _either(one, two)
        for one, two in zip(before, after, strict=True)
    ]


def _either(one: Tensor, other: Tensor) -> Tensor:
    """Return what holds of a tensor that may be either of two."""
    flow: Flow
    for tensor in (one, other):
        if isinstance(tensor.flow, Joined | Unclear):
            return Tensor(other.kind, None, tensor.flow)
    if one.shapes != other.shapes or one.shapes is None:
        flow = Unclear("", "a size changes from run to run")
        return Tensor(other.kind, None, flow)
    kinds = {type(one.flow), type(other.flow)}
    if one.flow == other.flow:
        flow = one.flow
    elif kinds == {Rows, Fixed}:
        flow = Unclear("", "rows take the place of what has none")
    elif Sized in kinds:
        flow = Unclear("", "the number of rows is among its values")
    else:
        flow = Unclear("", "rows change their axis from run to run")
    return Tensor(other.kind, one.shapes, flow)


def _slice(tensor: Tensor, axis: int) -> Tensor:
    """Return one step of what a Scan goes along."""
    if tensor.shapes is None:
        raise Undecided("a shape is not known")
    axis %= tensor.rank
    flow = tensor.flow
    if isinstance(flow, Rows):
        if flow.axis == axis:
            raise Mixed("goes from row to row")
        flow = Rows(flow.axis - (axis < flow.axis), flow.outer)
    shapes = tuple(shape[:axis] + shape[axis + 1 :] for shape in tensor.shapes)
    return Tensor(tensor.kind, (shapes[0], shapes[1]), flow)


def _stacked(tensor: Tensor, axis: int = 0, steps: tuple[int, int] | None = None) -> Tensor:
    """Return the steps of an output, put side by side along a new axis."""
    if tensor.shapes is None:
        return tensor
    rank = tensor.rank + 1
    axis %= rank
    flow = tensor.flow
    if isinstance(flow, Rows):
        flow = Rows(flow.axis + (axis <= flow.axis), flow.outer)
    if steps is None:
        steps = (1, 1)
    shapes: list[Shape] = [
        (*shape[:axis], count, *shape[axis:])
        for shape, count in zip(tensor.shapes, steps, strict=True)
    ]
    return Tensor(tensor.kind, (shapes[0], shapes[1]), flow)
