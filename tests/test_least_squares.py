"""Weights solved from sums: the error they are judged by, and pulls towards what was there."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.compress.pruning.least_squares import Fitted, Sums, fitted


def drawn(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def sums(x: np.ndarray, y: np.ndarray) -> Sums:
    """Of x [groups, patches, d] and y [groups, patches, outputs], taken in in two parts."""
    made = Sums()
    for part in (slice(0, 3), slice(3, None)):
        wanted = y[:, part].transpose(1, 0, 2).reshape(y[:, part].shape[1], -1)
        made.add(x[:, part].astype(np.float32), wanted.astype(np.float32))
    return made


def made_of(x: np.ndarray, layer: Fitted) -> np.ndarray:
    return np.asarray(np.einsum("gpd,god->gpo", x, layer.weights) + layer.biases[:, np.newaxis])


@given(seed=st.integers(0, 999), groups=st.integers(1, 3), d=st.integers(1, 6), o=st.integers(1, 4))
def test_the_error_is_that_of_the_layer_itself(seed: int, groups: int, d: int, o: int) -> None:
    x, y = drawn(seed, groups, 20, d), drawn(seed + 1, groups, 20, o)
    layer = Fitted(drawn(seed + 2, groups, o, d), drawn(seed + 3, groups, o))
    want = np.square(y - made_of(x, layer)).sum(axis=(0, 2)).mean()
    assert sums(x, y).error(layer) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize("biased", [True, False])
def test_a_layer_that_can_be_met_is_found(biased: bool) -> None:
    true = Fitted(drawn(0, 2, 3, 5), drawn(1, 2, 3) * biased)
    x, other = drawn(2, 2, 400, 5), drawn(3, 2, 100, 5)
    before = Fitted(true.weights + 0.5 * drawn(4, 2, 3, 5), np.zeros((2, 3)))
    seen, unseen = sums(x, made_of(x, true)), sums(other, made_of(other, true))
    found = fitted(seen, unseen, before, biased=biased)
    assert found is not None
    np.testing.assert_allclose(found.weights, true.weights, atol=0.05)
    np.testing.assert_allclose(found.biases, true.biases, atol=0.05)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 9999),
    patches=st.integers(4, 40),
    d=st.integers(1, 30),
    noise=st.floats(0, 3),
)
def test_what_was_not_seen_is_never_met_worse(
    seed: int, patches: int, d: int, noise: float
) -> None:
    """With fewer patches than unknowns, and with nothing but noise to learn, too."""
    true = Fitted(drawn(seed, 1, 2, d), drawn(seed + 1, 1, 2))
    x, other = drawn(seed + 2, 1, patches, d), drawn(seed + 3, 1, 50, d)
    y = made_of(x, true) + noise * drawn(seed + 4, 1, patches, 2)
    seen, unseen = sums(x, y), sums(other, made_of(other, true))
    found = fitted(seen, unseen, true, biased=True)
    assert found is None or unseen.error(found) < unseen.error(true)


def test_directions_that_were_not_seen_stay_as_they_were() -> None:
    before = Fitted(drawn(0, 1, 2, 4), np.zeros((1, 2)))
    x = drawn(1, 1, 200, 4)
    x[:, :, 3] = 0
    found = sums(x, drawn(2, 1, 200, 2)).solved(before, 0.01, biased=True)
    np.testing.assert_allclose(found.weights[:, :, 3], before.weights[:, :, 3])
