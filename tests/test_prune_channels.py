"""Structured pruning: smaller graphs that every runtime runs, to a goal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import checker, helper, numpy_helper, shape_inference

from hasten.compress import Context, PruneChannels, apply_step
from hasten.compress.pruning.allocation import (
    allocate,
    constant_bytes,
    most_important,
    uniform,
)
from hasten.compress.pruning.groups import channel_groups, channel_map
from hasten.errors import OptionError, RefusedError
from hasten.graph import Model, model_from_proto
from hasten.runtimes import Execution, get_runtime
from hasten.runtimes.runtime import Hint
from nets import conv_net, images
from onnx_models import branching, run, weight
from prunable_nets import MODULES, exported, net, unknown
from prunable_nets import images as pixels


def sizes(found: Model) -> dict[str, int]:
    return {group.name: group.size for group in channel_groups(found.graph)}


def pruned(found: Model, folder: Path, **settings: Any) -> Model:
    return apply_step(found, PruneChannels(**settings), Context(folder))


def small_net() -> Model:
    return model_from_proto(conv_net(), "net")


def test_half_of_every_group_goes_where_no_goal_is_given(tmp_path: Path) -> None:
    after = pruned(small_net(), tmp_path)
    assert sizes(after) == {"w1": 8, "w2": 8}
    assert after.signature == small_net().signature
    checker.check_model(shape_inference.infer_shapes(after.graph, strict_mode=True))


def test_the_channels_with_the_largest_weights_stay(tmp_path: Path) -> None:
    before = {one.name: one for one in small_net().graph.graph.initializer}
    after = pruned(small_net(), tmp_path, ratio=0.75, multiple=4)
    weights = numpy_helper.to_array(before["w1"])
    best = np.sort(np.argsort(-np.linalg.norm(weights.reshape(16, -1), axis=1))[:4])
    (kept,) = [one for one in after.graph.graph.initializer if one.name == "w1"]
    np.testing.assert_array_equal(numpy_helper.to_array(kept), weights[best])


def test_the_record_reads_as_the_goal(tmp_path: Path) -> None:
    (step,) = pruned(small_net(), tmp_path, ratio=0.5).steps
    assert step.step == "prune_channels"
    assert step.config["ratio"] == 0.5


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("runtime_name", ["onnxruntime", "openvino", "litert"])
def test_every_runtime_runs_what_is_left(name: str, runtime_name: str, tmp_path: Path) -> None:
    before = exported(name)[1]
    after = pruned(before, tmp_path, ratio=0.5, multiple=2)
    assert sum(sizes(after).values()) < 0.7 * sum(sizes(before).values())
    runtime = get_runtime(runtime_name)
    hint: Hint = "f32" if "f32" in runtime.probe().hints else "default"
    session = runtime.open(runtime.lower(after, tmp_path, hint), Execution(hint=hint))
    want = run(after, pixels(1))
    for key, values in session.run(pixels(1)).items():
        np.testing.assert_allclose(values, want[key], rtol=1e-3, atol=1e-4)
    session.close()


def test_a_goal_in_bytes_is_met(tmp_path: Path) -> None:
    before = exported("residual")[1]
    after = pruned(before, tmp_path, size_ratio=0.4, multiple=4)
    cost = constant_bytes(channel_map(before.graph))
    held = sum(len(one.raw_data) for one in after.graph.graph.initializer)
    assert cost(sizes(after)) == held
    assert 0.2 < held / cost(sizes(before)) <= 0.4


def test_a_goal_in_bytes_out_of_reach_is_refused_with_what_is_reached(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"reaches a cost of .* at least"):
        pruned(small_net(), tmp_path, size_ratio=0.01)


def test_a_goal_in_latency_needs_a_stopwatch(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="needs a stopwatch"):
        pruned(small_net(), tmp_path, latency_ratio=0.5)


def test_pruning_twice_is_pruning_of_what_is_left(tmp_path: Path) -> None:
    once = pruned(small_net(), tmp_path, ratio=0.5, multiple=4)
    twice = pruned(once, tmp_path, ratio=0.5, multiple=4)
    assert sizes(twice) == {"w1": 4, "w2": 4}
    assert run(twice, {"x": images(1)})["y"].shape == (1, 10)


def test_a_graph_without_channels_to_remove_says_why(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"what reaches DepthToSpace \(node odd\) stays"):
        pruned(unknown(), tmp_path)
    one = net(
        [helper.make_node("Conv", ["x", "w"], ["y"])], ["n", 4, 8, 8], [weight("w", 4, 3, 1, 1)]
    )
    with pytest.raises(RefusedError, match="they all reach an input or output"):
        pruned(one, tmp_path)


def test_groups_of_one_multiple_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no group has more than 16 channels"):
        pruned(small_net(), tmp_path, multiple=16)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match=r"takes no control flow .*If \(node choose\)"):
        pruned(model_from_proto(branching()), tmp_path)


@pytest.mark.parametrize("name", ["ratio", "latency_ratio", "size_ratio"])
@pytest.mark.parametrize("value", [-0.5, 0.0, 1.0, 1.5, float("nan")])
def test_a_ratio_outside_0_to_1_is_one_clear_line(name: str, value: float) -> None:
    with pytest.raises(
        OptionError, match=f"a ratio between 0 and 1, got .* prune_channels: {name}"
    ):
        msgspec.structs.replace(PruneChannels(), **{name: value})


def test_two_goals_are_one_clear_line() -> None:
    with pytest.raises(OptionError, match="Expected one goal, got ratio and size_ratio"):
        PruneChannels(ratio=0.5, size_ratio=0.5)


def test_a_way_of_timing_without_a_goal_in_latency_is_one_clear_line() -> None:
    with pytest.raises(OptionError, match=r"Expected a goal in latency, .* got int8 without one"):
        PruneChannels(ratio=0.5, timed_as="int8")


def test_a_multiple_below_one_is_one_clear_line() -> None:
    with pytest.raises(OptionError, match="a multiple of at least 1, got 0"):
        PruneChannels(multiple=0)


@given(
    size=st.integers(1, 500), ratio=st.floats(0.01, 0.99), multiple=st.sampled_from([1, 4, 8, 16])
)
def test_uniform_counts_are_multiples_near_the_ratio(
    size: int, ratio: float, multiple: int
) -> None:
    count = uniform({"g": size}, ratio, multiple)["g"]
    assert 1 <= count <= size
    assert count % multiple == 0 or count == size
    assert abs(count - size * (1 - ratio)) <= multiple


groups = st.dictionaries(
    st.sampled_from("abc"), st.lists(st.floats(0, 10), min_size=4, max_size=40), min_size=1
)


@given(values=groups, share=st.floats(0.3, 1.0), multiple=st.sampled_from([1, 2, 4]))
def test_allocation_meets_its_goal_in_multiples(
    values: dict[str, list[float]], share: float, multiple: int
) -> None:
    importances = {name: np.array(one) for name, one in values.items()}
    start = {name: len(one) for name, one in importances.items()}

    def cost(counts: Any) -> float:
        return float(sum(counts.values()))

    goal = max(cost(start) * share, multiple * len(start))
    counts = allocate(importances, cost, goal, start=start, multiple=multiple)
    assert cost(counts) <= goal
    assert all(
        count == start[name] or (count % multiple == 0 and count >= multiple)
        for name, count in counts.items()
    )


def test_allocation_takes_from_the_group_that_loses_least_for_what_it_saves() -> None:
    importances = {"flat": np.ones(16), "peaked": np.array([10.0] * 4 + [0.01] * 12)}
    start = {"flat": 16, "peaked": 16}
    counts = allocate(
        importances, lambda at: float(sum(at.values())), 24.0, start=start, multiple=4
    )
    assert counts == {"flat": 16, "peaked": 8}
    dear = allocate(
        importances, lambda at: 1e6 * at["flat"] + at["peaked"], 12.1e6, start=start, multiple=4
    )
    assert dear["flat"] == 12


def test_allocation_steps_over_counts_that_save_nothing() -> None:
    """A kernel that pads to 8 channels takes as long for 5 of them as for 8."""
    counts = allocate(
        {"g": np.ones(16)}, lambda at: -(-at["g"] // 8) * 1.0, 1.0, start={"g": 16}, multiple=1
    )
    assert counts == {"g": 8}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.data())
def test_the_most_important_are_in_order_and_none_beyond_is_larger(
    values: list[float], data: st.DataObject
) -> None:
    array = np.array(values)
    kept = most_important(array, data.draw(st.integers(1, len(values))))
    gone = np.setdiff1d(np.arange(len(values)), kept)
    assert (np.diff(kept) > 0).all()
    assert array[gone].max(initial=0.0) <= array[kept].min()
