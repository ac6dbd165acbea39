"""Groups of channels: what hangs together, what stays, and that what is removed was not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from torch import nn

from hasten.compress.pruning.groups import ChannelGroup, channel_groups
from hasten.compress.pruning.removal import prune_groups
from hasten.demo.network import features
from hasten.errors import OptionError
from hasten.graph import Model, load, model_from_proto, parse_input
from nets import conv_net
from onnx_models import model, run, value, weight
from prunable_nets import (
    HANDMADE,
    MODULES,
    SIDE,
    branched,
    exported,
    images,
    multiplied,
    net,
    normalised,
    unknown,
)

#: All but attention, of whose heads torch-pruning has to be told.
ORACLES = ["residual", "inverted residual", "dense", "flattened", "grouped"]
Signs = set[tuple[int, frozenset[str], frozenset[str]]]


def graph_of(name: str) -> onnx.ModelProto:
    return HANDMADE[name]().graph if name in HANDMADE else exported(name)[1].graph


def layers(group: ChannelGroup, role: str) -> frozenset[str]:
    return frozenset(
        member.constant.removesuffix(".weight") for member in group.members if member.role == role
    )


def ours(graph: onnx.ModelProto) -> Signs:
    return {
        (
            group.size * group.producers[0].indices.shape[1],
            layers(group, "producer"),
            layers(group, "consumer"),
        )
        for group in channel_groups(graph)
    }


def theirs(module: nn.Module) -> Signs:
    """The groups of torch-pruning, each with the layers it prunes outputs and inputs of."""
    graph = torch_pruning.DependencyGraph()
    graph.build_dependency(module, torch.zeros(1, 3, SIDE, SIDE))
    names = {each: name for name, each in module.named_modules()}
    kinds = [nn.Conv2d, nn.Linear]
    found = set()
    for layer in (each for each in names if type(each) in kinds and names[each] != "head"):
        makes = graph.get_pruner_of_module(layer).prune_out_channels
        size = getattr(layer, "out_channels", None) or layer.out_features
        group = graph.get_pruning_group(layer, makes, list(range(size)))
        made: set[str] = set()
        read: set[str] = set()
        for item in group:
            reached, done = item.dep.target.module, item.dep.handler.__name__
            if type(reached) in kinds and item.idxs:
                (made if "out" in done or "depthwise" in done else read).add(names[reached])
        found.add((size, frozenset(made), frozenset(read)))
    return found


@pytest.mark.parametrize("name", ORACLES)
def test_groups_are_those_that_torch_pruning_finds(name: str) -> None:
    module, found = exported(name)
    assert ours(found.graph) == theirs(module)


def test_heads_of_attention_go_as_a_whole() -> None:
    groups = {group.size: group for group in channel_groups(graph_of("attention"))}
    heads = groups[4]
    assert [member.indices.shape[1] for member in heads.producers] == [8, 8, 8]
    assert heads.producers[0].indices[1].tolist() == list(range(8, 16))


def test_halves_that_are_multiplied_go_together() -> None:
    groups = channel_groups(graph_of("attention"))
    gated = next(each for each in groups if each.producers[0].indices[0].tolist() == [0, 32])
    assert gated.size == 32


def test_parts_of_one_weight_are_groups_with_names_of_their_own() -> None:
    groups = {group.name: group for group in channel_groups(branched().graph)}
    assert {name: group.size for name, group in groups.items()} == {
        "w1[0]": 8,
        "w1[8]": 16,
        "w2": 12,
    }
    assert groups["w1[0]"].producers[0].indices[0].tolist() == [0, 24]


def test_a_depthwise_convolution_that_multiplies_channels_loses_all_of_one() -> None:
    (group,) = channel_groups(multiplied().graph)
    widths = {member.constant: member.indices.shape[1] for member in group.members}
    assert widths == {"w1": 1, "w2": 2, "b2": 2, "w3": 2, "w4": 2}


def test_channels_of_inputs_outputs_and_unknown_operators_stay() -> None:
    assert channel_groups(unknown().graph) == ()
    straight = net(
        [helper.make_node("Conv", ["x", "w"], ["y"])], ["n", 4, 8, 8], [weight("w", 4, 3, 1, 1)]
    )
    assert channel_groups(straight.graph) == ()


@pytest.mark.parametrize(
    ("kind", "attributes", "constants"),
    [
        ("Softmax", {"axis": 1}, {}),
        ("ReduceMean", {}, {"axes": [1]}),
        ("Gather", {"axis": 1}, {"indices": [3, 1]}),
        ("Slice", {}, {"starts": [0], "ends": [4], "axes": [1]}),
        ("Slice", {}, {"starts": [-1], "ends": [-99], "axes": [1], "steps": [-1]}),
        ("LRN", {"size": 3}, {}),
        ("Reshape", {}, {"dims": [-1, 4, 2, 8, 8]}),
    ],
)
def test_an_operator_that_mixes_channels_keeps_them(
    kind: str, attributes: dict[str, Any], constants: dict[str, list[int]]
) -> None:
    proto = model(
        [
            helper.make_node("Conv", ["x", "w"], ["c"]),
            helper.make_node(kind, ["c", *constants], ["m"], **attributes),
            helper.make_node("ReduceSum", ["m", "all"], ["y"], keepdims=0),
        ],
        [value("x", ["n", 3, 8, 8])],
        [value("y", ["n"])],
        [
            weight("w", 8, 3, 1, 1),
            *(numpy_helper.from_array(np.array(at), name) for name, at in constants.items()),
            numpy_helper.from_array(
                np.array([1, 2, 3] if kind != "Reshape" else [1, 2, 3, 4]), "all"
            ),
        ],
    )
    assert channel_groups(proto) == ()


def without(graph: onnx.ModelProto, groups: dict[str, ChannelGroup], keep: dict[str, Any]) -> Model:
    """The same graph with zeros for all that belongs to the channels that are not kept."""
    zeroed = onnx.ModelProto()
    zeroed.CopyFrom(graph)
    constants = {tensor.name: tensor for tensor in zeroed.graph.initializer}
    for name, kept in keep.items():
        gone = np.setdiff1d(np.arange(groups[name].size), kept)
        for member in groups[name].members:
            array = np.array(numpy_helper.to_array(constants[member.constant]))
            np.moveaxis(array, member.axis, 0)[member.indices[gone].reshape(-1)] = 0
            constants[member.constant].CopyFrom(numpy_helper.from_array(array, member.constant))
    return model_from_proto(zeroed, "zeroed")


@pytest.mark.parametrize("name", [*MODULES, *HANDMADE])
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_removing_channels_of_zeros_changes_no_output(name: str, data: st.DataObject) -> None:
    graph = graph_of(name)
    groups = {group.name: group for group in channel_groups(graph)}
    keep = {
        key: sorted(data.draw(st.sets(st.integers(0, group.size - 1), min_size=1), key))
        for key, group in groups.items()
    }
    zeroed = without(graph, groups, keep)
    smaller = model_from_proto(prune_groups(zeroed.graph, keep), "smaller")
    feed = images(1)
    want, got = run(zeroed, feed), run(smaller, feed)
    for key, values in want.items():
        np.testing.assert_allclose(got[key], values, rtol=1e-4, atol=1e-4)
    assert smaller.signature == zeroed.signature


def test_removing_channels_of_zeros_changes_nothing_in_lite0(tmp_path: Path) -> None:
    inputs = [parse_input("x=float32[batch,3,64,64]")]
    graph = load(features(), inputs=inputs, scratch=tmp_path).graph
    groups = {group.name: group for group in channel_groups(graph)}
    assert len(groups) == 24
    keep = {name: np.arange(0, group.size, 3) for name, group in groups.items()}
    zeroed = without(graph, groups, keep)
    smaller = model_from_proto(prune_groups(zeroed.graph, keep), "smaller")
    assert len(smaller.payload) < 0.3 * len(zeroed.payload)
    image = np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32)
    (want,), (got,) = (run(each, {"x": image}).values() for each in (zeroed, smaller))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_a_graph_of_which_nothing_goes_is_the_same() -> None:
    graph = conv_net()
    keep = {group.name: range(group.size) for group in channel_groups(graph)}
    assert keep
    whole = prune_groups(graph, keep)
    assert [*whole.graph.initializer] == [*graph.graph.initializer]
    assert [*whole.graph.node] == [*graph.graph.node]


def test_a_group_that_is_not_there_is_named() -> None:
    with pytest.raises(OptionError, match="a group of the graph: w1, w2, got w9"):
        prune_groups(conv_net(), {"w9": [0]})


@pytest.mark.parametrize("indices", [[], [16], [-1]])
def test_indices_beyond_a_group_and_empty_groups_are_refused(indices: list[int]) -> None:
    with pytest.raises(OptionError, match="channels from 0 to 15"):
        prune_groups(conv_net(), {"w1": indices})


def test_the_scale_of_a_batch_norm_is_marked_as_one() -> None:
    (group,) = channel_groups(normalised().graph)
    roles = {member.constant: member.role for member in group.members}
    assert roles["scale"] == "norm_scale"
    assert roles["variance"] == "other"
