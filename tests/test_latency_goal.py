"""A goal in latency, with stopwatches that know what a model takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import shape_inference

from hasten.compress import Context, PruneChannels, apply_step
from hasten.compress.pruning.groups import channel_groups, channel_map
from hasten.compress.pruning.touched_part import part, touched_nodes
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto, signature_of
from hasten.progress import Quiet
from onnx_models import run
from prunable_nets import exported, images


@pytest.fixture
def residual() -> Model:
    return exported("residual")[1]


def work_ms(graph: onnx.ModelProto, width: int) -> float:
    """Products of all convolutions in a graph, with channels padded to a vector's width."""
    shaped = shape_inference.infer_shapes(graph).graph
    places = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*shaped.value_info, *shaped.output)
    }
    weights = {one.name: list(one.dims) for one in shaped.initializer}
    for node in shaped.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in weights:
            weights[node.output[0]] = weights[node.input[0]]
    total = 0.0
    for node in shaped.node:
        if node.op_type == "Conv":
            channels = [-(-size // width) * width for size in weights[node.input[1]][:2]]
            kernel = weights[node.input[1]][2:]
            total += float(np.prod([*channels, *kernel, *places[node.output[0]][2:]]))
    return total / 1e6 + 0.01


class Calculated:
    """A stopwatch that takes ``factor`` more time for a whole model than for its parts."""

    def __init__(self, factor: float = 1.0, width: int = 4) -> None:
        self.factor = factor
        self.width = width
        self.asked = 0

    def __call__(self, series: Iterable[Sequence[Model]], *, rounds: int) -> Iterator[list[float]]:
        for models in series:
            self.asked += len(models)
            yield [
                work_ms(one.graph, self.width)
                + (self.factor - 1.0) * (len(one.graph.graph.node) > 12) * 0.05
                for one in models
            ]


@pytest.mark.parametrize("ratio", [0.8, 0.5, 0.3])
@pytest.mark.parametrize("factor", [1.0, 1.5])
def test_the_measured_ratio_is_the_one_asked_for(
    ratio: float, factor: float, residual: Model, tmp_path: Path
) -> None:
    stopwatch = Calculated(factor)
    context = Context(tmp_path, stopwatch=stopwatch)
    after = apply_step(residual, PruneChannels(latency_ratio=ratio, multiple=4), context)
    ((whole, left),) = stopwatch([[residual, after]], rounds=1)
    assert 0.7 * ratio < left / whole <= ratio
    assert run(after, images(1))["output"].shape == (1, 5)


class Flattering(Calculated):
    """A stopwatch whose short checks of a pair call the second a tenth faster than it is."""

    def __call__(self, series: Iterable[Sequence[Model]], *, rounds: int) -> Iterator[list[float]]:
        for whole, *others in super().__call__(series, rounds=rounds):
            is_lucky = len(others) == 1 and rounds < 30
            yield [whole, *(ms * (0.9 if is_lucky else 1.0) for ms in others)]


def test_a_lucky_check_is_not_taken_for_the_goal(residual: Model, tmp_path: Path) -> None:
    context = Context(tmp_path, stopwatch=Flattering())
    after = apply_step(residual, PruneChannels(latency_ratio=0.7, multiple=4), context)
    ((whole, left),) = Calculated()([[residual, after]], rounds=1)
    assert left / whole <= 0.7


class InIntegers(Calculated):
    """A stopwatch that takes graphs in int8 alone."""

    def __call__(self, series: Iterable[Sequence[Model]], *, rounds: int) -> Iterator[list[float]]:
        kept = [list(models) for models in series]
        for model in (one for models in kept for one in models):
            assert "QuantizeLinear" in {node.op_type for node in model.graph.graph.node}
        yield from super().__call__(kept, rounds=rounds)


def test_what_is_timed_may_be_the_graph_in_int8(residual: Model, tmp_path: Path) -> None:
    context = Context(tmp_path, stopwatch=InIntegers())
    config = PruneChannels(latency_ratio=0.6, multiple=4, timed_as="int8")
    after = apply_step(residual, config, context)
    assert "QuantizeLinear" not in {node.op_type for node in after.graph.graph.node}
    ((whole, left),) = Calculated()([[residual, after]], rounds=1)
    assert 0.4 < left / whole <= 0.6


def test_the_same_times_give_the_same_model(residual: Model, tmp_path: Path) -> None:
    context = Context(tmp_path, stopwatch=Calculated())
    config = PruneChannels(latency_ratio=0.5, multiple=4)
    digests = {apply_step(residual, config, context).digest for _ in range(2)}
    assert len(digests) == 1


def test_a_latency_out_of_reach_is_refused(residual: Model, tmp_path: Path) -> None:
    context = Context(tmp_path, stopwatch=Calculated(factor=40.0))
    with pytest.raises(RefusedError, match="pruning channels reache"):
        apply_step(residual, PruneChannels(latency_ratio=0.1, multiple=4), context)


def test_counts_that_save_no_time_are_left(residual: Model, tmp_path: Path) -> None:
    """Where channels are padded to 16, none of these has use for 24 or 8."""
    context = Context(tmp_path, stopwatch=Calculated(width=16))
    after = apply_step(residual, PruneChannels(latency_ratio=0.7, multiple=4), context)
    sizes = {group.name: group.size for group in channel_groups(after.graph)}
    assert all(size in {16, 24, 32} for size in sizes.values())


def test_a_part_is_a_model_that_computes_what_the_whole_does(residual: Model) -> None:
    found = channel_map(residual.graph)
    name = "one.weight"
    shaped = shape_inference.infer_shapes(residual.graph)
    alone = part(shaped, touched_nodes(found, name))
    model = model_from_proto(alone, "part")
    assert {node.op_type for node in alone.graph.node} == {"Conv", "Relu"}
    (spec,) = model.signature.inputs
    (out,) = model.signature.outputs
    whole = onnx.ModelProto()
    whole.CopyFrom(residual.graph)
    values = {value.name: value for value in shaped.graph.value_info}
    whole.graph.output.extend([values[spec.name], values[out.name]])
    every = run(Model("whole", whole, signature_of(whole)), images(1))
    np.testing.assert_allclose(
        run(model, {spec.name: every[spec.name]})[out.name], every[out.name], rtol=1e-5, atol=1e-5
    )


def test_each_group_is_measured_at_a_few_counts_only(residual: Model, tmp_path: Path) -> None:
    stopwatch = Calculated()
    context = Context(tmp_path, stopwatch=stopwatch, progress=Quiet())
    apply_step(residual, PruneChannels(latency_ratio=0.5, multiple=4), context)
    assert stopwatch.asked < 2 * 4 * len(channel_groups(residual.graph)) + 30
