"""Results of steps kept by content: found again, told apart, and never taken when damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hasten.compress import (
    Context,
    Distill,
    FoldInput,
    PruneChannels,
    Sparsify,
    StaticInt8,
    StepConfig,
    apply_step,
)
from hasten.data import Samples
from hasten.errors import RefusedError
from hasten.graph import AppliedStep, Model, model_from_proto
from hasten.progress import Advance
from hasten.tune.chain import apply_recipe
from hasten.tune.recipe import Recipe
from hasten.tune.step_cache import Lookup, StepCache, step_key
from nets import conv_net, images, labels
from onnx_models import linear

INT8 = StaticInt8()
SPARSE = Sparsify(0.5)


@pytest.fixture(scope="module")
def net() -> Model:
    return model_from_proto(conv_net(), "net")


@pytest.fixture
def context(tmp_path: Path) -> Context:
    values = images(16)
    samples = Samples({"x": values}, labels(values))
    return Context(tmp_path, calibration=samples, training=samples)


@pytest.fixture
def cache(tmp_path: Path) -> StepCache:
    found = StepCache(tmp_path / "steps")
    assert found.problem() == ""
    return found


def entries(cache_folder: Path) -> list[Path]:
    return sorted((cache_folder / "steps").glob("*.model"))


# Found again


def test_what_a_step_made_comes_back_as_it_was(
    net: Model, context: Context, cache: StepCache
) -> None:
    made = apply_step(net, INT8, context)
    assert cache.keep("key", made) == ""

    found = cache.find("key", net).model

    assert found is not None
    assert found.payload == made.payload
    assert found.signature == made.signature
    assert found.steps == made.steps


def test_what_a_step_had_to_tell_is_told_again(
    net: Model, context: Context, cache: StepCache
) -> None:
    recipe = Recipe((Distill(epochs=1, batch=8),))
    first = apply_recipe(net, recipe, context, cache)

    assert first.notes != ()
    assert apply_recipe(net, recipe, context, cache).notes == first.notes


def test_the_twin_that_calibration_looks_at_comes_back_too(
    net: Model, context: Context, cache: StepCache
) -> None:
    made, twin = apply_step(net, INT8, context), apply_step(net, SPARSE, context)
    cache.keep("key", made, twin)

    found = cache.find("key", net, net)

    assert found.unfolded is not None
    assert found.unfolded.digest == twin.digest


def test_nothing_is_found_where_nothing_was_kept(net: Model, cache: StepCache) -> None:
    assert cache.find("key", net) == Lookup()


def test_a_recipe_takes_what_is_there(net: Model, context: Context, cache: StepCache) -> None:
    planted = apply_step(net, Sparsify(0.9), context)
    cache.keep(step_key(net, SPARSE, replace(context, teacher=net)), planted)

    chain = apply_recipe(net, Recipe((SPARSE,)), context, cache)

    assert chain.models[-1].digest == planted.digest


def test_without_a_cache_every_step_is_applied(net: Model, context: Context) -> None:
    chain = apply_recipe(net, Recipe((SPARSE, INT8)), context)

    assert [len(model.steps) for model in chain.models] == [0, 1, 2]
    assert entries(context.scratch) == []


def test_a_chain_that_was_refused_half_way_goes_on_from_there(
    net: Model, context: Context, cache: StepCache
) -> None:
    too_much = Recipe((SPARSE, PruneChannels(multiple=64)), source="r.toml")
    with pytest.raises(RefusedError, match=r"^r\.toml: steps\[1\] \(prune_channels\): no group"):
        apply_recipe(net, too_much, context, cache)
    (kept,) = entries(context.scratch)
    planted = apply_step(net, Sparsify(0.9), context)
    cache.keep(kept.stem, planted)

    chain = apply_recipe(net, Recipe((SPARSE, INT8)), context, cache)

    assert chain.models[1].digest == planted.digest
    assert len(entries(context.scratch)) == 2


def test_a_fold_is_sooner_made_than_read(context: Context, cache: StepCache, net: Model) -> None:
    with pytest.raises(RefusedError, match="no preprocessing"):
        apply_recipe(net, Recipe((FoldInput(),)), context, cache)

    assert entries(context.scratch) == []


# Told apart


@pytest.mark.parametrize(
    "other", [StaticInt8("s8"), StaticInt8(calibrator="mse"), SPARSE, Sparsify(0.25)]
)
def test_another_step_or_setting_is_another_result(
    net: Model, context: Context, other: StepConfig
) -> None:
    assert step_key(net, other, context) != step_key(net, INT8, context)


def test_another_graph_is_another_result(net: Model, context: Context) -> None:
    assert step_key(model_from_proto(linear(), "net"), INT8, context) != step_key(
        net, INT8, context
    )


def test_other_samples_are_another_result(net: Model, context: Context) -> None:
    changed = images(16)
    changed[3, 1, 2, 5] = np.nextafter(changed[3, 1, 2, 5], np.float32(9))
    other = Samples({"x": changed}, labels(images(16)))
    contexts = [context, replace(context, calibration=other), replace(context, training=other)]

    assert len({step_key(net, INT8, one) for one in contexts}) == 3


def test_another_teacher_is_another_result(net: Model, context: Context) -> None:
    taught = [replace(context, teacher=one) for one in (None, net, "http://host/v2/models/m")]

    assert len({step_key(net, Distill(), one) for one in taught}) == 3


def test_a_name_and_a_place_to_work_in_change_nothing(
    net: Model, context: Context, tmp_path: Path
) -> None:
    moved = replace(context, scratch=tmp_path / "elsewhere")

    assert step_key(replace(net, name="other"), INT8, moved) == step_key(net, INT8, context)


# Damaged, full, in the way


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_an_entry_that_is_cut_short_is_made_anew(
    net: Model, context: Context, cache: StepCache, keep: int
) -> None:
    recipe = Recipe((SPARSE,))
    whole = apply_recipe(net, recipe, context, cache)
    (entry,) = entries(context.scratch)
    entry.write_bytes(entry.read_bytes()[:keep])

    chain = apply_recipe(net, recipe, context, cache)

    assert chain.models[-1].digest == whole.models[-1].digest
    assert chain.notes == (f"a damaged entry of the step cache was made anew: {entry.name}",)
    assert apply_recipe(net, recipe, context, cache).notes == ()


def test_a_flipped_bit_is_seen(net: Model, context: Context, cache: StepCache) -> None:
    apply_recipe(net, Recipe((SPARSE,)), context, cache)
    (entry,) = entries(context.scratch)
    content = bytearray(entry.read_bytes())
    content[-100] ^= 1
    entry.write_bytes(content)

    assert "damaged" in apply_recipe(net, Recipe((SPARSE,)), context, cache).notes[0]


def test_a_cache_that_cannot_be_written_costs_only_a_note(
    net: Model, context: Context, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")

    recipe = Recipe((SPARSE, Distill(epochs=1, batch=8)))
    chain = apply_recipe(net, recipe, context, StepCache(tmp_path / "file" / "steps"))

    assert len(chain.models) == 3
    assert "the step cache cannot be used: NotADirectoryError" in chain.notes[0]


def test_what_was_not_used_for_longest_makes_room(
    net: Model, context: Context, tmp_path: Path
) -> None:
    made = apply_step(net, SPARSE, context)
    cache = StepCache(tmp_path / "steps", capacity_bytes=int(2.5 * len(made.payload)))
    cache.problem()
    for at, key in enumerate("abc"):
        cache.keep(key, made)
        os.utime(tmp_path / "steps" / f"{key}.model", (at, at))
        if key == "b":
            cache.find("a", net)

    assert [path.stem for path in entries(tmp_path)] == ["a", "c"]


# Interrupted


class Interrupting:
    """Progress that a user ends with Ctrl-C in the middle of a training."""

    def __init__(self, after: int) -> None:
        self._left = after

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:
        yield self._advance if title == "training" else lambda amount: None

    def _advance(self, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise KeyboardInterrupt


def test_a_training_goes_on_where_it_was_interrupted(
    net: Model, context: Context, cache: StepCache, tmp_path: Path
) -> None:
    recipe = Recipe((Distill(epochs=3, batch=4, learning_rate=0.01),))
    whole = apply_recipe(net, recipe, context)
    with pytest.raises(KeyboardInterrupt):
        apply_recipe(net, recipe, replace(context, progress=Interrupting(after=5)), cache)
    assert list((tmp_path / "steps" / "checkpoints").iterdir()) != []

    resumed = apply_recipe(net, recipe, context, cache)

    assert resumed.models[-1].digest == whole.models[-1].digest
    assert list((tmp_path / "steps" / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("at", [0, 40, 64, 65, 70, 100, 150, 300, 1000, 4000])
def test_any_flipped_bit_of_an_entry_is_found(at: int, net: Model, tmp_path: Path) -> None:
    cache = StepCache(tmp_path / "steps")
    before = net
    made = before.evolve(before.graph, before.signature, AppliedStep("a_step", {"ratio": 0.5}))
    assert cache.keep("key", made, notes=["a note"]) == ""
    (entry,) = (tmp_path / "steps").glob("*.model")
    content = bytearray(entry.read_bytes())
    content[at % len(content)] ^= 1 << at % 8
    entry.write_bytes(content)
    found = cache.find("key", before)
    assert found.model is None
    assert "damaged" in found.damage
    assert not entry.exists()


def test_nobody_else_may_look_into_the_cache(net: Model, tmp_path: Path) -> None:
    cache = StepCache(tmp_path / "steps")
    cache.keep("key", net.evolve(net.graph, net.signature, AppliedStep("a_step")))
    (entry,) = (tmp_path / "steps").glob("*.model")
    assert entry.parent.stat().st_mode & 0o777 == 0o700
    assert entry.stat().st_mode & 0o777 == 0o600
