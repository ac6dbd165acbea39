"""Parts of a plan: each is taken out alone, and named."""

from __future__ import annotations

import msgspec
import pytest

from hasten.compress import FoldInput, StaticInt8, StepConfig
from hasten.runtimes import Execution
from hasten.tune.candidate import Candidate
from hasten.tune.ledger import parts_in_turn, parts_of

FOLD, INT8 = FoldInput(), StaticInt8()
REFERENCE = Candidate((), "pytorch", Execution(2))


def plan(
    *steps: StepConfig, runtime: str = "onnxruntime", execution: Execution | None = None
) -> Candidate:
    return Candidate(steps, runtime, execution or REFERENCE.execution)


def test_the_reference_has_no_parts() -> None:
    assert parts_of(REFERENCE, REFERENCE) == []


def test_each_step_is_left_out_alone() -> None:
    parts = dict(parts_of(plan(FOLD, INT8), REFERENCE))
    assert parts["fold_input"] == plan(INT8)
    assert parts["static_int8 u8 w8 minmax corrected"] == plan(FOLD)


@pytest.mark.parametrize("hint", ["bf16", "f16"])
def test_a_lower_precision_gives_way_to_float32(hint: str) -> None:
    low = Execution(2, hint=hint)  # type: ignore[arg-type]
    parts = dict(parts_of(plan(INT8, runtime="openvino", execution=low), REFERENCE))
    assert parts[hint] == plan(INT8, runtime="openvino", execution=Execution(2, hint="f32"))


def test_float32_is_no_part() -> None:
    full = Execution(2, hint="f32")
    names = [name for name, _ in parts_of(plan(runtime="openvino", execution=full), REFERENCE)]
    assert names == ["openvino (instead of pytorch)"]


def test_a_runtime_without_steps_gives_way_to_that_of_the_reference() -> None:
    full = Execution(2, hint="f32")
    parts = dict(parts_of(plan(runtime="openvino", execution=full), REFERENCE))
    assert parts["openvino (instead of pytorch)"] == REFERENCE


def test_a_runtime_with_steps_gives_way_to_one_that_takes_any_graph() -> None:
    parts = dict(parts_of(plan(INT8, runtime="openvino"), REFERENCE))
    assert parts["openvino (instead of onnxruntime)"] == plan(INT8)


def test_that_one_itself_is_no_part_where_there_are_steps() -> None:
    names = [name for name, _ in parts_of(plan(INT8), REFERENCE)]
    assert names == ["static_int8 u8 w8 minmax corrected"]


@pytest.mark.parametrize(
    "execution", [Execution(1), Execution(1, instances=2), Execution(2, batch=4)], ids=str
)
def test_threads_instances_and_batch_give_way_together(execution: Execution) -> None:
    parts = dict(parts_of(plan(INT8, execution=execution), REFERENCE))
    assert parts[f"{execution} (instead of 2t)"] == plan(INT8)


def test_every_part_differs_from_the_plan_in_one_thing() -> None:
    chosen = plan(FOLD, INT8, runtime="openvino", execution=Execution(1, hint="bf16"))
    parts = parts_of(chosen, REFERENCE)
    assert len(parts) == 5
    for name, lacking in parts:
        changed = {
            key
            for key in ("steps", "runtime", "execution")
            if getattr(lacking, key) != getattr(chosen, key)
        }
        # Another runtime has precisions of its own.
        assert len(changed - {"execution"} or changed) == 1, name


def test_layout_and_precision_are_parts_of_their_own() -> None:
    chosen = plan(runtime="openvino", execution=Execution(1, hint="bf16"))
    parts = dict(parts_of(chosen, REFERENCE))
    kept = parts["1t bf16 (instead of 2t)"].execution
    assert kept == msgspec.structs.replace(REFERENCE.execution, hint="bf16")
    assert parts["bf16"].execution.threads == 1


def test_each_step_of_a_recipe_is_held_against_those_before_it() -> None:
    chosen = plan(FOLD, INT8, runtime="litert")
    parts = parts_in_turn(chosen, REFERENCE)
    assert [(part.whole.steps, part.lacking.steps) for part in parts[:2]] == [
        ((FOLD,), ()),
        ((FOLD, INT8), (FOLD,)),
    ]
    assert [part.name for part in parts[2:]] == ["litert (instead of onnxruntime)"]
    assert parts[2].whole == chosen
