"""Concats: one scale for all they join, so that no runtime rescales the parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hasten.compress import Context, StaticInt8, apply_step
from hasten.compress.quantization.calibration import Range
from hasten.compress.quantization.shared_ranges import shared_ranges
from hasten.data import Samples
from hasten.graph import Model
from hasten.runtimes.litert.lowering.lower import lower_graph
from onnx_models import run
from rescalable_nets import SIDE, feed, made, net


def branches(
    *, last: str = "Relu", pooled: bool = True, read_twice: bool = False, clip: bool = False
) -> Model:
    """Two ReLUs and a third operator side by side, of very different sizes."""
    limits = ["zero", "six"]
    read = "both" if read_twice else "joined"
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Clip", ["a", *limits], ["ar"])
        if clip
        else helper.make_node("Relu", ["a"], ["ar"]),
        helper.make_node("Conv", ["x", "w2"], ["b"]),
        helper.make_node("Relu", ["b"], ["br"]),
        *([helper.make_node("MaxPool", ["br"], ["bp"], kernel_shape=[1, 1])] if pooled else []),
        helper.make_node("Conv", ["x", "w3"], ["c"]),
        helper.make_node(last, ["c"], ["cr"]),
        helper.make_node("Concat", ["ar", "bp" if pooled else "br", "cr"], ["joined"], axis=1),
        *([helper.make_node("Conv", ["cr", "w5"], ["again"])] if read_twice else []),
        *([helper.make_node("Add", ["joined", "again"], ["both"])] if read_twice else []),
        helper.make_node("Conv", [read, "w4"], ["y"]),
    ]
    weights = [made(f"w{at}", 4, 3, 1, 1) for at in (1, 2, 3)]
    weights[2].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights[2]) / 3, "w3"))
    weights += [made("w4", 4, 12, 1, 1), made("w5", 12, 4, 1, 1)]
    weights += [
        numpy_helper.from_array(np.array(end, np.float32), n)
        for end, n in ((0, "zero"), (2, "six"))
    ]
    return net("branches", nodes, weights, 3, SIDE, SIDE)


def quantized(found: Model, folder: Path, activations: str = "u8") -> Model:
    place = Context(folder, Samples(feed(found, 16)))
    return apply_step(found, StaticInt8(activations, "w7"), place)  # type: ignore[arg-type]


def scales(found: Model) -> dict[str, float]:
    """The scale that each activation is stored with, by its name."""
    held = {one.name: numpy_helper.to_array(one) for one in found.graph.graph.initializer}
    return {
        name.removesuffix("_scale"): float(scale)
        for name, scale in held.items()
        if name.endswith("_scale") and scale.ndim == 0
    }


@pytest.mark.parametrize("pooled", [False, True])
def test_all_that_a_concat_joins_has_one_scale(pooled: bool, tmp_path: Path) -> None:
    found = scales(quantized(branches(pooled=pooled), tmp_path))
    assert {"ar", "br", "cr", "joined"} < found.keys()
    assert len({found[name] for name in found.keys() - {"x", "y"}}) == 1


@pytest.mark.parametrize("activations", ["u8", "s8"])
def test_a_lowered_concat_rescales_nothing(activations: str, tmp_path: Path) -> None:
    program = lower_graph(quantized(branches(), tmp_path, activations).graph).program
    kinds = [operator.kind for operator in program.operators]
    assert "CONCATENATION" in kinds
    # Only the edges of the model are: float in, float out.
    assert kinds.count("QUANTIZE") == 1
    assert kinds.count("DEQUANTIZE") == 1


def test_what_something_else_reads_keeps_its_own_range(tmp_path: Path) -> None:
    found = scales(quantized(branches(read_twice=True), tmp_path))
    assert found["cr"] < found["joined"] / 2
    assert found["br"] == found["joined"]


@pytest.mark.parametrize("clip", [False, True])
@pytest.mark.parametrize("last", ["Relu", "Identity"])
def test_a_range_that_stands_in_for_a_rectifier_still_does(
    last: str, clip: bool, tmp_path: Path
) -> None:
    plain = branches(last=last, clip=clip)
    x = feed(plain, 16, seed=5)
    want, got = run(plain, x)["y"], run(quantized(plain, tmp_path), x)["y"]
    assert 10 * np.log10(np.square(want).sum() / np.square(want - got).sum()) > 25


def test_concats_of_concats_share_one_range() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["ab"], axis=1),
        helper.make_node("Concat", ["ab", "c"], ["abc"], axis=1),
    ]
    graph = onnx.ModelProto()
    graph.graph.node.extend(nodes)
    given = {name: Range(-at, at + 1) for at, name in enumerate(("a", "b", "ab", "c", "abc"))}
    assert set(shared_ranges(graph, given, {}).values()) == {Range(-4, 5)}


def test_a_graph_without_concats_keeps_its_ranges() -> None:
    graph = onnx.ModelProto()
    graph.graph.node.extend([helper.make_node("MaxPool", ["a"], ["b"])])
    given = {"a": Range(0, 1), "b": Range(0, 2)}
    assert shared_ranges(graph, given, {}) == given
