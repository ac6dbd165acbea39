"""What the QDQ writer cannot take stays in float, and the rest of the model becomes int8."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

import hasten
from deployable_nets import NETS
from hasten.compress import Context, StaticInt8, apply_step
from hasten.compress.quantization.calibration import Range
from hasten.compress.quantization.float_nodes import offenders
from hasten.compress.quantization.qdq_writer import quantized
from hasten.compress.quantization.rounding import Weights
from hasten.compress.quantization.separate_roles import separate_roles
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto
from int8_net import constants, sqnr_db
from nets import filters
from onnx_models import model, run, value, weight


def around(*nodes: onnx.NodeProto, shape: tuple[int | None, ...], **held: np.ndarray) -> Model:
    """The nodes, from ``a`` to ``b``, between two convolutions of 1x1."""
    weights = [
        filters("first", 8, 4, 1, 1, seed=1),
        filters("last", 3, shape[1] or 1, 1, 1, seed=2),
    ]
    weights += [numpy_helper.from_array(one.astype(np.float32), name) for name, one in held.items()]
    before = helper.make_node("Conv", ["x", "first"], ["a"], "before")
    after = helper.make_node("Conv", ["b", "last"], ["y"], "after")
    inputs, outputs = [value("x", ["n", 4, 6, 6])], [value("y", ["n", 3, *shape[2:]])]
    return model_from_proto(model([before, *nodes, after], inputs, outputs, weights), "around")


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape)


REFUSED = {
    "grouped transposed convolution": around(
        helper.make_node("ConvTranspose", ["a", "w", "c"], ["b"], "odd", group=4, strides=[2, 2]),
        shape=(None, 8, 12, 12),
        w=random(8, 2, 2, 2),
        c=random(8),
    ),
    "layer norm over several axes": around(
        helper.make_node("LayerNormalization", ["a", "w", "c"], ["b"], "odd", axis=1),
        shape=(None, 8, 6, 6),
        w=random(8, 6, 6),
        c=random(8, 6, 6),
    ),
}


@pytest.mark.parametrize("weights", ["w8", "w4"])
@pytest.mark.parametrize("net", REFUSED.values(), ids=REFUSED)
def test_a_node_that_the_writer_cannot_take_stays_in_float(
    net: Model, weights: Weights, tmp_path: Path
) -> None:
    x = random(64, 4, 6, 6).astype(np.float32)
    place = Context(tmp_path, Samples({"x": x}))
    made = apply_step(net, StaticInt8(weights=weights), place)
    held = constants(made)
    assert {"first_quantized", "last_quantized"} <= set(held)
    np.testing.assert_array_equal(held["w"], constants(net)["w"])
    np.testing.assert_array_equal(held["c"], constants(net)["c"])
    assert place.notes[0].startswith("static int8 leaves in float: odd: ")
    least = 25 if weights == "w8" else 10
    assert sqnr_db(run(net, {"x": x})["y"], run(made, {"x": x})["y"]) > least


def test_where_nothing_is_left_the_model_is_refused_with_the_reasons(tmp_path: Path) -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], "odd", group=2)
    proto = model([node], [value("x", ["n", 4, 6, 6])], [value("y", ["n", 4, 7, 7])])
    proto.graph.initializer.append(weight("w", 4, 2, 2, 2))
    place = Context(tmp_path, Samples({"x": random(8, 4, 6, 6).astype(np.float32)}))
    with pytest.raises(RefusedError, match=r"^nothing is left to quantize: odd: a transposed"):
        apply_step(model_from_proto(proto, "odd"), StaticInt8(), place)


@pytest.mark.parametrize("shape", [(1, 5), (5,), (1,), ()])
def test_a_bias_of_a_gemm_that_is_one_row_is_quantized(shape: tuple[int, ...]) -> None:
    node = helper.make_node("Gemm", ["x", "w", "c"], ["y"], "gemm", beta=2.0)
    held = [numpy_helper.from_array(random(*shape).astype(np.float32), "c"), weight("w", 4, 5)]
    proto = model([node], [value("x", ["n", 4])], [value("y", ["n", 5])], held)
    found = quantized(proto, {"x": Range(-3, 3), "y": Range(-9, 9)})
    assert found.left == {}
    x = random(16, 4).astype(np.float32)
    want = run(model_from_proto(proto), {"x": x})["y"]
    assert sqnr_db(want, run(model_from_proto(found.graph), {"x": x})["y"]) > 25


def test_a_bias_of_a_gemm_that_is_a_matrix_leaves_it_in_float() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "c"], ["m"], "odd"),
        helper.make_node("MatMul", ["m", "v"], ["y"], "plain"),
    ]
    held = [weight("c", 2, 5), weight("w", 4, 5), weight("v", 5, 3)]
    proto = model(nodes, [value("x", [2, 4])], [value("y", [2, 3])], held)
    ranges = {name: Range(-9, 9) for name in ("x", "m", "y")}
    assert quantized(proto, ranges).left == {"odd": "its bias is a matrix"}


def test_what_only_trying_tells_is_found_by_trying() -> None:
    """A tied weight, which no step has made two of: the writer raises, and does not say where."""
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["m"], "one"),
        helper.make_node("Gemm", ["m", "tied", "c"], ["k"], "two", transB=1),
        helper.make_node("Gemm", ["k", "tied", "d"], ["y"], "three"),
    ]
    held = [weight("first", 4, 8), weight("tied", 40, 8), weight("c", 40), weight("d", 8)]
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 8])], held)
    ranges = {name: Range(-99, 99) for name in ("x", "m", "k", "y")}
    left = quantized(proto, ranges).left
    assert list(left) == ["three"]
    assert "the QDQ writer failed" in left["three"]


names = st.integers(2, 40).map(range)


@given(
    names.flatmap(
        lambda some: st.tuples(
            st.just(list(map(str, some))),
            st.sets(st.sampled_from(some)),
            st.sets(st.frozensets(st.sampled_from(some), min_size=2, max_size=3)),
        )
    )
)
def test_trying_leaves_out_what_fails_and_keeps_all_that_works(
    case: tuple[list[str], set[int], set[frozenset[int]]],
) -> None:
    """Some fail alone, some only beside others."""
    names, alone, together = case

    def failure(some: Collection[str]) -> str:
        taken = set(map(int, some))
        return "fails" if taken & alone or any(one <= taken for one in together) else ""

    left = set(offenders(names, failure))
    kept = [name for name in names if name not in left]
    assert not failure(kept)
    for name in left:
        assert failure([*kept, name])


# Tied weights


def tied_autoencoder() -> Model:
    nodes = [
        helper.make_node("Gemm", ["x", "e"], ["code"], "encode", transB=1),
        helper.make_node("Relu", ["code"], ["r"]),
        helper.make_node("Gemm", ["r", "e"], ["y"], "decode"),
    ]
    proto = model(nodes, [value("x", ["n", 8])], [value("y", ["n", 8])], [weight("e", 40, 8)])
    return model_from_proto(proto, "tied")


def tied_embedding() -> Model:
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "embed"),
        helper.make_node("MatMul", ["x", "w"], ["h"], "hidden"),
        helper.make_node("Transpose", ["table"], ["t"], "turn"),
        helper.make_node("MatMul", ["h", "t"], ["logits"], "head"),
        helper.make_node("MatMul", ["h", "v"], ["y"], "other"),
    ]
    weights = [weight("table", 30, 16), weight("w", 16, 16, seed=1), weight("v", 16, 4, seed=2)]
    outputs = [value("logits", ["n", 5, 30]), value("y", ["n", 5, 4])]
    ids = value("ids", ["n", 5], onnx.TensorProto.INT64)
    return model_from_proto(model(nodes, [ids], outputs, weights), "embedding")


def looked_up() -> Model:
    """One table is looked up and multiplied with, as a whole and by columns."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["x"], "embed"),
        helper.make_node("MatMul", ["x", "table"], ["y"], "product"),
    ]
    ids = value("ids", ["n", 5], onnx.TensorProto.INT64)
    proto = model(nodes, [ids], [value("y", ["n", 5, 16])], [weight("table", 16, 16)])
    return model_from_proto(proto, "table")


@pytest.mark.parametrize("weights", ["w8", "w4"])
@pytest.mark.parametrize("make", [tied_autoencoder, tied_embedding, looked_up])
def test_a_tied_weight_gets_scales_for_each_way_it_is_read(
    make: Callable[[], Model], weights: Weights, tmp_path: Path
) -> None:
    net = make()
    ids = np.random.default_rng(0).integers(0, 16, (32, 5))
    given = {"x": random(32, 8).astype(np.float32)} if make is tied_autoencoder else {"ids": ids}
    place = Context(tmp_path, Samples(given))
    made = apply_step(net, StaticInt8(weights=weights), place)
    assert place.notes == []
    for name, want in run(net, given).items():
        assert sqnr_db(want, run(made, given)[name]) > (25 if weights == "w8" else 8)


def test_a_weight_that_is_read_in_one_way_stays_one() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], [weight("w", 4, 4)])
    assert separate_roles(proto) == (proto, {})


def test_a_bias_of_several_layers_becomes_one_for_each(tmp_path: Path) -> None:
    """The writer would call its copies b11 and b12, whatever else is called so."""
    names = ["x", "b11", "b12", "y"]
    nodes = [
        helper.make_node("Conv", [read, f"w{at}", "b1"], [f"c{at}"], f"conv {at}")
        for at, read in enumerate(names[:-1])
    ]
    nodes += [
        helper.make_node("Reshape", [f"c{at}", "sizes"], [made], f"reshape {at}")
        for at, made in enumerate(names[1:])
    ]
    nodes = [nodes[at] for at in (0, 3, 1, 4, 2, 5)]
    weights = [filters(f"w{at}", 4, 4, 1, 1, seed=at) for at in range(3)]
    weights += [weight("b1", 4), numpy_helper.from_array(np.array([0, 4, 6, 6]), "sizes")]
    edges = [value("x", ["n", 4, 6, 6])], [value("y", ["n", 4, 6, 6])]
    net = model_from_proto(model(nodes, *edges, weights), "shared bias")
    x = random(16, 4, 6, 6).astype(np.float32)
    place = Context(tmp_path, Samples({"x": x}))
    made = apply_step(net, StaticInt8(), place)
    assert place.notes == []
    assert sqnr_db(run(net, {"x": x})["y"], run(made, {"x": x})["y"]) > 25


@pytest.mark.parametrize("name", ["tied", "language model", "shared twice"])
def test_tied_parameters_of_pytorch_are_all_integers(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = NETS[name]().eval()
    x = torch.randn(8, *net.shape)
    loaded = hasten.load(net, x[:2])
    place = Context(tmp_path, Samples({loaded.signature.inputs[0].name: x.numpy()}))
    made = apply_step(loaded, StaticInt8(), place)
    assert place.notes == []
    held = [one for one in made.graph.graph.initializer if len(one.dims) > 1]
    assert held
    assert onnx.TensorProto.FLOAT not in {one.data_type for one in held}


@pytest.mark.parametrize(("left", "shape"), [(False, (2, 5, 8)), (True, (6, 5))])
def test_stacks_and_matrices_on_the_left_have_one_scale(left: bool, shape: tuple[int, ...]) -> None:
    """Integer kernels have a scale for each column of one matrix on the right, and none else."""
    rows = (2, 4, 5)
    node = helper.make_node("MatMul", ["w", "x"] if left else ["x", "w"], ["y"], "product")
    proto = model([node], [value("x", rows)], [value("y", None)], [weight("w", *shape)])
    found = quantized(proto, {"x": Range(-3, 3), "y": Range(-9, 9)})
    held = {one.name: one.dims for one in found.graph.graph.initializer}
    assert list(held["w_scale"]) == []
