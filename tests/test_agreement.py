"""How far outputs part."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import helper, numpy_helper

import hasten
from hasten.conversion import Agreement, compare_runs
from hasten.errors import RefusedError
from hasten.graph import model_from_proto
from onnx_models import model, value, weight


def apart(want: object, have: object) -> float:
    sides = ({"y": np.asarray(want)}, {"y": np.asarray(have)})
    differences, _ = compare_runs(lambda _: sides[0], lambda _: sides[1], [({}, 1)])
    return differences[0].relative


def floats(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)


def test_the_difference_of_floats_is_a_share_of_the_largest_value() -> None:
    assert apart(floats(0, -4, 2), floats(1, -4, 2)) == 0.25


def test_equal_outputs_do_not_part() -> None:
    assert apart(floats(np.nan, np.inf, 0), floats(np.nan, np.inf, 0)) == 0
    assert apart(floats(0), floats(0)) == 0
    assert apart(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32)) == 0


@pytest.mark.parametrize(
    ("want", "have"),
    [
        (floats(1), floats(np.nan)),
        (floats(np.inf), floats(1)),
        (floats(1), floats(1, 2)),
        (floats(1), np.array([1])),
    ],
)
def test_what_cannot_be_compared_parts_infinitely(want: np.ndarray, have: np.ndarray) -> None:
    assert apart(want, have) == np.inf


def test_indices_are_counted_where_they_differ() -> None:
    assert apart(np.array([1, 2, 3, 400]), np.array([1, 2, 3, 4])) == 0.25


def test_codes_are_numbers_on_a_scale() -> None:
    assert apart(np.array([100, 3], np.int8), np.array([99, 3], np.int8)) == 0.01


def test_the_largest_value_is_that_of_all_feeds() -> None:
    feeds = [({"x": floats(1)}, 1), ({"x": floats(10)}, 1)]
    differences, _ = compare_runs(lambda feed: feed, lambda feed: {"x": feed["x"] + 1}, feeds)

    assert differences[0].relative == pytest.approx(0.1)


def compared(want: np.ndarray, have: np.ndarray, allowed: float = 0.1) -> Agreement:
    """What is said of one output, a sample a run."""
    feeds = [({"x": one[None], "z": two[None]}, 1) for one, two in zip(want, have, strict=True)]
    differences, outputs = compare_runs(
        lambda feed: {"y": feed["x"]}, lambda feed: {"y": feed["z"]}, feeds
    )
    return Agreement("a", "b", len(want), False, allowed, differences, outputs)


VALUES = np.random.default_rng(0).standard_normal((20, 30)).astype(np.float32)


def test_an_output_that_parts_further_than_is_allowed_is_refused() -> None:
    noise = np.random.default_rng(1).standard_normal(VALUES.shape).astype(np.float32)
    with pytest.raises(
        RefusedError,
        match=r"output y \(scores\) of b differs from a by 0.2 of what varies over samples"
        r" \(1\d.\d dB\), 0.1 is allowed \(20 samples\); nothing was written",
    ):
        compared(VALUES, VALUES + np.float32(0.2) * noise).require("net")


def test_a_small_difference_is_accepted() -> None:
    compared(VALUES, VALUES * np.float32(1.01)).require("net")


def test_one_value_that_is_off_among_many_is_accepted_within_the_tolerance() -> None:
    have = VALUES.copy()
    have[0, 0] += 0.2
    assert compared(VALUES, have).parting == ""
    assert compared(VALUES, have, allowed=1e-3).parting


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(RefusedError, match="output y of b cannot be compared"):
        compared(VALUES, VALUES * np.float32(np.nan)).require("net")


def test_where_it_begins_is_said() -> None:
    found = msgspec.structs.replace(compared(VALUES, -VALUES), drift="tensor t, made by Conv")
    with pytest.raises(RefusedError, match="it begins at tensor t, made by Conv; nothing was"):
        found.require("net")


def test_noise_below_the_floor_is_accepted_where_as_much_is_allowed() -> None:
    noise = np.random.default_rng(1).standard_normal(VALUES.shape).astype(np.float32)
    noisy = VALUES + np.float32(0.6) * noise
    assert "its noise is" in compared(VALUES, noisy, allowed=0.2).parting
    assert compared(VALUES, noisy, allowed=0.8).parting == ""


def test_an_output_that_became_constant_is_refused_whatever_noise_is_allowed() -> None:
    assert "it became constant" in compared(VALUES, np.zeros_like(VALUES), allowed=2.0).parting


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_what_quantizing_has_added_is_allowed_in_its_file_too(kind: str, tmp_path: Path) -> None:
    """Signals of 1 ride on 300, which is what a step of int8 is made for."""
    away = np.full(16, 300, np.float32)
    home = weight("home", 16, 16, seed=1)
    back = -away @ numpy_helper.to_array(home)
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["product"]),
        helper.make_node("Add", ["product", "away"], ["far"]),
        helper.make_node("MatMul", ["far", "home"], ["second"]),
        helper.make_node("Add", ["second", "back"], ["y"]),
    ]
    constants = [numpy_helper.from_array(away, "away"), numpy_helper.from_array(back, "back")]
    edges = [value("x", ["n", 16])], [value("y", ["n", 16])]
    net = model(nodes, *edges, [weight("first", 16, 16), home, *constants])
    x = np.random.default_rng(0).standard_normal((48, 16)).astype(np.float32)
    made = hasten.quantize(
        model_from_proto(net, "far"),
        hasten.Data({"x": x[:24]}, calibration={"x": x[24:]}),
        out=tmp_path / f"int8.{kind}",
        way=hasten.Way(rounds=0, cache=False),
    )
    (judged,) = made.pair.outputs
    assert judged.sqnr_db is not None
    assert judged.sqnr_db < 14
    assert made.agreement.allowed == pytest.approx(np.sqrt(2) * 10 ** (-judged.sqnr_db / 20))
