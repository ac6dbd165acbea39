"""How far outputs part."""

from __future__ import annotations

import numpy as np
import pytest

from hasten.conversion import Agreement, Difference, compare_outputs
from hasten.errors import RefusedError


def apart(want: object, have: object) -> float:
    sides = ({"y": np.asarray(want)}, {"y": np.asarray(have)})
    (found,) = compare_outputs(lambda _: sides[0], lambda _: sides[1], [{}])
    return found.relative


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
    feeds = [{"x": floats(1)}, {"x": floats(10)}]
    (found,) = compare_outputs(lambda feed: feed, lambda feed: {"x": feed["x"] + 1}, feeds)

    assert found.relative == pytest.approx(0.1)


def test_an_output_that_parts_further_than_is_allowed_is_refused() -> None:
    given = Agreement("a", "b", 3, True, 0.1, (Difference("x", 0.0), Difference("y", 0.5)))

    with pytest.raises(
        RefusedError, match=r"output y of b differs from a by 0.5 .* 0.1 is allowed"
    ):
        given.require("net")


def test_a_small_difference_is_accepted() -> None:
    Agreement("a", "b", 3, True, 0.1, (Difference("x", 0.1),)).require("net")
