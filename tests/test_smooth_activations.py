"""SmoothQuant: outlier channels shrink, the float function stays, int8 loses less."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper

from hasten.compress import Context, SmoothActivations, StaticInt8, apply_step
from hasten.data import Samples
from hasten.errors import OptionError, RefusedError
from hasten.graph import Model, model_from_proto
from int8_net import sqnr_db
from onnx_models import linear, run
from rescalable_nets import NETS, convolutions, feed, transformer


def with_outliers() -> Model:
    """The transformer, with two channels of each normalisation a hundred times too large.

    As in language models: the weights that read them are no smaller for it.
    """
    found = transformer()
    for held in found.graph.graph.initializer:
        if held.name in {"g1", "g2", "d1", "d2"}:
            values = numpy_helper.to_array(held).copy()
            values[[1, 5]] *= 100
            held.CopyFrom(numpy_helper.from_array(values, held.name))
        if held.name in {"wq", "wk", "wv", "w1"}:
            values = numpy_helper.to_array(held).copy()
            values[[1, 5]] /= 50
            held.CopyFrom(numpy_helper.from_array(values, held.name))
    return model_from_proto(found.graph, "outliers")


def place(folder: Path, found: Model) -> Context:
    return Context(folder, Samples(feed(found, 64, seed=1)))


def smooth(found: Model, folder: Path, alpha: float = 0.5) -> Model:
    return apply_step(found, SmoothActivations(alpha), place(folder, found))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("name", [*NETS, "outliers"])
def test_the_float_function_stays_the_same(name: str, alpha: float, tmp_path: Path) -> None:
    plain = with_outliers() if name == "outliers" else NETS[name]()
    x = feed(plain, 8)
    want, got = run(plain, x)["y"], run(smooth(plain, tmp_path, alpha), x)["y"]
    assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()


def test_int8_of_a_transformer_with_outliers_loses_less(tmp_path: Path) -> None:
    plain, x = with_outliers(), feed(transformer(), 64, seed=2)
    want = run(plain, x)["y"]

    def kept(found: Model) -> float:
        quantized = apply_step(found, StaticInt8(weights="w7"), place(tmp_path, found))
        return sqnr_db(want, run(quantized, x)["y"])

    assert kept(smooth(plain, tmp_path)) > kept(plain) + 6


def test_normalisation_takes_the_scale_that_weights_give_back(tmp_path: Path) -> None:
    plain = with_outliers()
    before = {held.name: numpy_helper.to_array(held) for held in plain.graph.graph.initializer}
    found = smooth(plain, tmp_path)
    after = {held.name: numpy_helper.to_array(held) for held in found.graph.graph.initializer}
    scale = before["g1"] / after["g1"]
    assert scale[[1, 5]].min() > 3 * np.median(scale)
    np.testing.assert_allclose(after["wk"], before["wk"] * scale[:, np.newaxis], rtol=1e-4)


def test_a_layer_before_takes_it_too(tmp_path: Path) -> None:
    found = smooth(convolutions(), tmp_path)
    assert found.payload != convolutions().payload


def test_without_samples_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no calibration samples"):
        apply_step(transformer(), SmoothActivations(), Context(tmp_path))


def test_a_single_layer_is_refused(tmp_path: Path) -> None:
    found = model_from_proto(linear(), "linear")
    with pytest.raises(RefusedError, match="nothing to smooth"):
        apply_step(
            found,
            SmoothActivations(),
            Context(tmp_path, Samples({"x": np.ones((2, 4), np.float32)})),
        )


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_alpha_is_a_share(alpha: float) -> None:
    with pytest.raises(OptionError, match="Expected 0 to 1"):
        SmoothActivations(alpha)
