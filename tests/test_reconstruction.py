"""Weights solved anew: what a pruned graph gives is brought back to what the whole one gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from hasten.compress import Context, PruneChannels, apply_step
from hasten.compress.pruning.groups import channel_map
from hasten.compress.pruning.held_out import divided
from hasten.compress.pruning.reconstruction import reconstructed
from hasten.compress.pruning.removal import pruned
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import Model, model_from_proto
from onnx_models import model, run, value

RANDOM = np.random.default_rng(0)


def tensor(name: str, values: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, np.float32), name)


def redundant() -> Model:
    """Two convolutions; channels 4 to 7 between them are sums of channels 0 to 3."""
    first = RANDOM.normal(size=(4, 3, 3, 3))
    mixing = RANDOM.normal(size=(4, 4))
    doubled = np.concatenate([first, np.einsum("ab,bcij->acij", mixing, first)])
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["h"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["h", "w2"], ["g"]),
        helper.make_node("GlobalAveragePool", ["g"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    weights = [
        tensor("w1", doubled),
        tensor("b1", RANDOM.normal(size=8)),
        tensor("w2", RANDOM.normal(size=(6, 8, 1, 1))),
        tensor("w3", RANDOM.normal(size=(2, 6))),
        tensor("b3", RANDOM.normal(size=2)),
    ]
    graph = model(nodes, [value("x", ["n", 3, 8, 8])], [value("y", ["n", 2])], weights)
    return model_from_proto(graph, "redundant")


def on_tokens() -> Model:
    """Two products of tokens with biases in Adds; columns 4 to 7 between are sums of the others."""
    first, mixing = RANDOM.normal(size=(6, 4)), RANDOM.normal(size=(4, 4))
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["m"], "first"),
        helper.make_node("Add", ["m", "b1"], ["h"]),
        helper.make_node("MatMul", ["h", "w2"], ["g"], "second"),
        helper.make_node("Add", ["g", "b2"], ["y"]),
    ]
    weights = [
        tensor("w1", np.concatenate([first, first @ mixing], axis=1)),
        tensor("b1", RANDOM.normal(size=8)),
        tensor("w2", RANDOM.normal(size=(8, 3))),
        tensor("b2", RANDOM.normal(size=3)),
    ]
    graph = model(nodes, [value("x", ["n", 5, 6])], [value("y", ["n", 5, 3])], weights)
    return model_from_proto(graph, "tokens")


def samples(count: int = 32) -> Samples:
    return Samples({"x": RANDOM.normal(size=(count, 3, 8, 8)).astype(np.float32)})


def error(one: Model, other: Model, data: Samples) -> float:
    feed = {"x": np.array(data.arrays["x"])}
    want = run(other, feed)["y"]
    return float(np.square(run(one, feed)["y"] - want).mean() / want.var())


def test_channels_that_say_nothing_new_can_go_unnoticed(tmp_path: Path) -> None:
    whole = redundant()
    found = channel_map(whole.graph)
    keep = {"w1": range(4)}
    small = pruned(found, keep)
    context = Context(tmp_path, calibration=samples())
    solved = reconstructed(small, whole, found, keep, context)
    unseen = samples()
    left = error(model_from_proto(solved, "solved"), whole, unseen)
    assert left < 1e-3 < error(model_from_proto(small, "small"), whole, unseen)


def test_what_an_add_behind_a_product_adds_is_solved_too(tmp_path: Path) -> None:
    whole = on_tokens()
    found = channel_map(whole.graph)
    (group,) = found.groups
    keep = {group.name: range(4)}
    small = pruned(found, keep)
    tokens = Samples({"x": RANDOM.normal(size=(48, 5, 6)).astype(np.float32)})
    context = Context(tmp_path, calibration=tokens)
    solved = reconstructed(small, whole, found, keep, context)
    unseen = Samples({"x": RANDOM.normal(size=(48, 5, 6)).astype(np.float32)})
    assert error(model_from_proto(solved, "solved"), whole, unseen) < 1e-3
    assert context.notes[0].startswith("prune_channels: 2 of 2 layers solved anew; the outputs'")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 100.0])
def test_samples_that_are_held_out_are_never_met_worse(scale: float, tmp_path: Path) -> None:
    """Though those that it is solved with are of another size, and all alike."""
    whole = redundant()
    found = channel_map(whole.graph)
    keep = {"w1": range(4)}
    small = pruned(found, keep)
    _, held = divided(Samples({"x": np.arange(16)[:, np.newaxis]}))
    at = held.arrays["x"].ravel()
    images = np.repeat(RANDOM.normal(size=(1, 3, 8, 8)) * scale, 16, axis=0).astype(np.float32)
    images[at] = RANDOM.normal(size=(len(at), 3, 8, 8))
    context = Context(tmp_path, calibration=Samples({"x": images}))
    left = reconstructed(small, whole, found, keep, context)
    unseen = Samples({"x": images[at]})
    before = error(model_from_proto(small, "small"), whole, unseen)
    after = error(model_from_proto(left, "left"), whole, unseen)
    assert after == before if left is small else after < before


def test_rows_that_channels_of_another_layer_took_along_are_left_out(tmp_path: Path) -> None:
    """As in an MLP-Mixer, whose products over tokens have a row for each channel."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], "channels"),
        helper.make_node("Transpose", ["a"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w2"], ["m"], "tokens"),
        helper.make_node("Transpose", ["m"], ["b"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["b", "w3"], ["y"], "out"),
    ]
    first, mixing = RANDOM.normal(size=(6, 4)), RANDOM.normal(size=(4, 4))
    weights = [
        tensor("w1", np.concatenate([first, first @ mixing], axis=1)),
        tensor("w2", RANDOM.normal(size=(5, 5))),
        tensor("w3", RANDOM.normal(size=(8, 3))),
    ]
    graph = model(nodes, [value("x", ["n", 5, 6])], [value("y", ["n", 5, 3])], weights)
    whole = model_from_proto(graph, "mixer")
    found = channel_map(whole.graph)
    keep = {next(group.name for group in found.groups if group.size == 8): range(4)}
    tokens = Samples({"x": RANDOM.normal(size=(48, 5, 6)).astype(np.float32)})
    context = Context(tmp_path, calibration=tokens)
    solved = reconstructed(pruned(found, keep), whole, found, keep, context)
    unseen = Samples({"x": RANDOM.normal(size=(48, 5, 6)).astype(np.float32)})
    assert error(model_from_proto(solved, "solved"), whole, unseen) < 1e-3


def test_a_single_sample_is_enough(tmp_path: Path) -> None:
    whole = redundant()
    found = channel_map(whole.graph)
    keep = {"w1": range(4)}
    small, context = pruned(found, keep), Context(tmp_path, calibration=samples(1))
    left = reconstructed(small, whole, found, keep, context)
    assert error(model_from_proto(left, "left"), whole, samples()) < 0.1


def test_weights_stay_what_they_were_where_no_channel_goes(tmp_path: Path) -> None:
    whole = redundant()
    found = channel_map(whole.graph)
    everything = {group.name: range(group.size) for group in found.groups}
    context = Context(tmp_path, calibration=samples())
    same = reconstructed(pruned(found, everything), whole, found, everything, context)
    assert error(model_from_proto(same, "same"), whole, samples()) < 1e-9


def test_room_for_one_layer_at_a_time_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, context = redundant(), Context(tmp_path, calibration=samples())
    found = channel_map(whole.graph)
    keep = {"w1": range(4)}

    def solved() -> bytes:
        graph = reconstructed(pruned(found, keep), whole, found, keep, context)
        return bytes(graph.SerializeToString(deterministic=True))

    at_once = solved()
    monkeypatch.setattr("hasten.compress.pruning.reconstruction._KEPT_BYTES", 1)
    assert solved() == at_once


def test_the_step_is_nearer_to_the_whole_model_with_it_than_without(tmp_path: Path) -> None:
    whole, data = redundant(), samples()

    def without(reconstruct: bool) -> Model:
        step = PruneChannels(ratio=0.5, multiple=1, reconstruct=reconstruct)
        return apply_step(whole, step, Context(tmp_path, calibration=data))

    unseen = samples()
    assert error(without(True), whole, unseen) < 0.5 * error(without(False), whole, unseen)


def test_a_step_without_samples_says_that_it_did_not_solve_anew(tmp_path: Path) -> None:
    context = Context(tmp_path)
    apply_step(redundant(), PruneChannels(ratio=0.5, multiple=1), context)
    assert context.notes == ["prune_channels: no samples to solve the weights anew with"]


def test_solving_without_samples_is_refused(tmp_path: Path) -> None:
    whole = redundant()
    found = channel_map(whole.graph)
    keep = {"w1": range(4)}
    with pytest.raises(RefusedError, match="no calibration samples"):
        reconstructed(pruned(found, keep), whole, found, keep, Context(tmp_path))
