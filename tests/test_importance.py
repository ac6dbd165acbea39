"""Which channels matter: by weights, by batch norms, by gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from hasten.compress import Context
from hasten.compress.pruning.groups import channel_groups
from hasten.compress.pruning.importance import Importance, importances
from hasten.data import Samples
from hasten.errors import DataError, RefusedError
from hasten.graph import Model, model_from_proto
from nets import conv_net, images, labels
from prunable_nets import normalised


def values(found: Model, kind: Importance, context: Context) -> dict[str, np.ndarray]:
    return dict(importances(found, channel_groups(found.graph), kind, context))


def small() -> Model:
    """A net in which every second channel of the first convolution has tiny weights."""
    proto = conv_net()
    for tensor in proto.graph.initializer:
        if tensor.name == "w1":
            array = np.array(numpy_helper.to_array(tensor))
            array[::2] *= 1e-3
            tensor.CopyFrom(numpy_helper.from_array(array, "w1"))
    return model_from_proto(proto, "net")


def samples(*, labelled: bool) -> Samples:
    return Samples({"x": images(12)}, labels(images(12)) if labelled else None)


def test_magnitude_is_the_norm_of_the_weights_of_a_channel(tmp_path: Path) -> None:
    found = model_from_proto(conv_net(), "net")
    weights = numpy_helper.to_array(found.graph.graph.initializer[0])
    want = np.linalg.norm(weights.reshape(16, -1), axis=1)
    np.testing.assert_allclose(values(found, "magnitude", Context(tmp_path))["w1"], want)


def test_batch_norm_is_the_absolute_scale(tmp_path: Path) -> None:
    found = normalised()
    scale = next(each for each in found.graph.graph.initializer if each.name == "scale")
    want = np.abs(numpy_helper.to_array(scale))
    np.testing.assert_allclose(values(found, "batch_norm", Context(tmp_path))["w1"], want)


def test_a_graph_without_batch_norms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="the channels of w1 pass none"):
        values(model_from_proto(conv_net()), "batch_norm", Context(tmp_path))


@pytest.mark.parametrize("labelled", [True, False])
def test_gradients_find_the_channels_that_do_little(tmp_path: Path, labelled: bool) -> None:
    context = Context(tmp_path, samples(labelled=labelled))
    found = values(small(), "taylor", context)["w1"]
    assert (found > 0).any()
    assert np.median(found[::2]) < 0.05 * np.median(found[1::2])


def test_gradients_are_the_same_each_time(tmp_path: Path) -> None:
    context = Context(tmp_path, samples(labelled=True))
    first, second = (values(small(), "taylor", context) for _ in range(2))
    np.testing.assert_array_equal(first["w2"], second["w2"])


def test_labels_that_are_no_classes_of_the_output_are_one_line(tmp_path: Path) -> None:
    for found, wrong in ((small(), np.full(12, 10)), (normalised(), np.zeros(12, int))):
        shape = [12, *(dim or 1 for dim in found.signature.inputs[0].shape[1:])]
        given = Samples({"x": np.ones(shape, np.float32)}, wrong, source="made.npz")
        with pytest.raises(
            DataError, match=r"^Expected labels that output y .* at made.npz"
        ) as said:
            values(found, "taylor", Context(tmp_path, given))
        assert "\n" not in str(said.value)


def test_gradients_need_samples(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="needs calibration samples"):
        values(small(), "taylor", Context(tmp_path))
