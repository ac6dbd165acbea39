"""Unstructured pruning: which weights become zeros, and what that does to the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from hasten.compress import Context, Sparsify, apply_step
from hasten.compress.sparsify import (
    apply_masks,
    compressed_bytes,
    cubic_sparsity,
    masks,
    zero_share,
)
from hasten.errors import OptionError, RefusedError
from hasten.graph import Model, model_from_proto
from nets import conv_net, images
from onnx_models import model, run, value, weight


def product(*shape: int, kind: str = "MatMul", transposed: bool = False) -> Model:
    node = helper.make_node(kind, ["x", "w"], ["y"], transB=1 if transposed else None)
    outputs = [value("y", ["n", None])]
    return model_from_proto(
        model([node], [value("x", ["n", None])], outputs, [weight("w", *shape)])
    )


def held(found: Model, name: str) -> np.ndarray:
    (tensor,) = [one for one in found.graph.graph.initializer if one.name == name]
    return numpy_helper.to_array(tensor)


@given(sparsity=st.floats(0, 0.99))
def test_the_smallest_weights_of_the_graph_become_zeros(sparsity: float) -> None:
    found = masks(conv_net(), Sparsify(sparsity))
    weights = {name: np.abs(held(model_from_proto(conv_net()), name)) for name in found}
    kept = np.concatenate([weights[name][mask] for name, mask in found.items()])
    gone = np.concatenate([weights[name][~mask] for name, mask in found.items()])
    assert len(gone) == round(sparsity * (len(gone) + len(kept)))
    assert kept.min() >= gone.max(initial=0.0)


def test_a_layer_alone_loses_its_own_share() -> None:
    found = masks(conv_net(), Sparsify(0.25, scope="layer"))
    assert {name: mask.mean() for name, mask in found.items()} == dict.fromkeys(
        ("w1", "w2", "w3"), 0.75
    )


@pytest.mark.parametrize("pattern", ["2:4", "1:4", "3:8"])
@pytest.mark.parametrize(
    ("found", "axis"),
    [
        (product(10, 6), 0),
        (product(10, 6, kind="Gemm"), 0),
        (product(6, 10, kind="Gemm", transposed=True), 1),
    ],
)
def test_a_pattern_holds_along_the_input_channels(found: Model, axis: int, pattern: str) -> None:
    most, length = map(int, pattern.split(":"))
    mask = masks(found.graph, Sparsify(pattern=pattern))["w"]
    rows = np.moveaxis(mask, axis, -1)
    for at in range(0, 10, length):
        part = rows[..., at : at + length]
        assert (part.sum(axis=-1) == min(most, part.shape[-1])).all()


def test_a_pattern_keeps_the_largest_of_each_row(tmp_path: Path) -> None:
    before = product(8, 3)
    after = apply_step(before, Sparsify(pattern="2:4"), Context(tmp_path))
    rows = np.abs(held(before, "w")).T.reshape(-1, 4)
    kept = np.abs(held(after, "w")).T.reshape(-1, 4)
    np.testing.assert_array_equal(np.sort(kept)[:, 2:], np.sort(rows)[:, 2:])


def test_the_step_writes_what_its_masks_say(tmp_path: Path) -> None:
    before = model_from_proto(conv_net(), "net")
    after = apply_step(before, Sparsify(0.6), Context(tmp_path))
    assert zero_share(after.graph) == pytest.approx(0.6, abs=1e-3)
    assert zero_share(before.graph) == 0
    assert [str(step) for step in after.steps] == ["sparsify sparsity=0.6 global"]
    masked = apply_masks(before.graph, masks(before.graph, Sparsify(0.6)))
    np.testing.assert_array_equal(held(after, "w2"), held(model_from_proto(masked), "w2"))


def test_no_zeros_change_nothing(tmp_path: Path) -> None:
    before = model_from_proto(conv_net(), "net")
    after = apply_step(before, Sparsify(0.0), Context(tmp_path))
    feed = {"x": images(2)}
    np.testing.assert_array_equal(run(after, feed)["y"], run(before, feed)["y"])


def test_zeros_make_the_compressed_file_smaller(tmp_path: Path) -> None:
    before = model_from_proto(conv_net(), "net")
    after = apply_step(before, Sparsify(0.9), Context(tmp_path))
    assert len(after.payload) == len(before.payload)
    assert compressed_bytes(after) < 0.4 * compressed_bytes(before)


def test_a_graph_without_weights_is_refused(tmp_path: Path) -> None:
    relu = model([helper.make_node("Relu", ["x"], ["y"])], [value("x", [1])], [value("y", [1])])
    with pytest.raises(RefusedError, match="no float32 weights"):
        apply_step(model_from_proto(relu), Sparsify(), Context(tmp_path))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 7.0, float("nan")])
def test_a_share_outside_0_to_1_is_one_clear_line(sparsity: float) -> None:
    with pytest.raises(OptionError, match=r"a share of zeros .* at sparsify: sparsity"):
        Sparsify(sparsity)


@pytest.mark.parametrize("pattern", ["2", "4:4", "0:4", "a:b", "-1:4", ":"])
def test_a_pattern_that_is_none_is_one_clear_line(pattern: str) -> None:
    with pytest.raises(OptionError, match="a pattern N:M"):
        Sparsify(pattern=pattern)


@given(step=st.integers(-5, 30), final=st.floats(0, 0.99))
def test_the_schedule_rises_from_the_first_to_the_final_share(step: int, final: float) -> None:
    now, then = (cubic_sparsity(at, begin=0, end=20, final=final) for at in (step, step + 1))
    assert 0 <= now <= then <= final
    assert cubic_sparsity(0, begin=0, end=20, final=final, initial=final / 2) == final / 2
    assert cubic_sparsity(20, begin=0, end=20, final=final) == final
