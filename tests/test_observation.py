"""Observing: which tensors are watched, how samples are counted, and what it costs."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from hasten.compress import StaticInt8, apply_step
from hasten.compress.activations.observation import observe
from hasten.compress.static_int8 import Calibrator
from hasten.compress.step import Observation
from hasten.progress import Advance
from int8_net import Activations, context, every_dtype, images, net
from nets import SIDE


class Stages:
    """Progress that remembers its stages."""

    def __init__(self) -> None:
        self.total: dict[str, int | None] = {}
        self.done: dict[str, list[int]] = {}

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:
        self.total[title] = total
        self.done[title] = [*self.done.get(title, []), 0]

        def advance(amount: int) -> None:
            self.done[title][-1] += amount

        yield advance


def test_tensors_that_the_writer_takes_out_are_not_watched(tmp_path: Path) -> None:
    watched = set(observe(net(), context(tmp_path)).histograms)
    assert watched == {"x", "r1", "c2", "r2", "pooled", "flat", "y"}


@every_dtype
def test_ranges_of_what_is_not_watched_would_change_nothing(
    activations: Activations, tmp_path: Path
) -> None:
    place, plain = context(tmp_path), net()
    found = apply_step(plain, StaticInt8(activations), place)
    seen = place.observations[plain.digest]
    of_x = seen.histograms["x"]
    more = {**seen.histograms, "c1": of_x, "s": of_x}
    place.observations[plain.digest] = Observation(more, seen.means)
    assert apply_step(plain, StaticInt8(activations), place).payload == found.payload


def test_observing_a_model_again_costs_nothing(tmp_path: Path) -> None:
    stages = Stages()
    place = context(tmp_path, progress=stages)
    calibrators: tuple[Calibrator, ...] = ("minmax", "mse")
    for calibrator in calibrators:
        apply_step(net(), StaticInt8("u8", calibrator=calibrator), place)
    assert stages.done == {"calibrating": [32]}


def test_progress_counts_samples_also_where_the_batch_is_fixed(tmp_path: Path) -> None:
    stages = Stages()
    observe(net(batch=8), context(tmp_path, images(10), progress=stages))
    assert stages.total == {"calibrating": 10}
    assert stages.done == {"calibrating": [10]}


def test_progress_counts_samples_where_each_has_several_rows(tmp_path: Path) -> None:
    stages = Stages()
    rows = images(12).reshape(6, 2, 3, SIDE, SIDE)
    observe(net(), context(tmp_path, rows, progress=stages))
    assert stages.done == {"calibrating": [6]}


def test_rows_that_only_fill_a_fixed_batch_are_not_counted(tmp_path: Path) -> None:
    fixed = observe(net(batch=8), context(tmp_path, images(10))).histograms
    free = observe(net(), context(tmp_path, images(10))).histograms
    for name, seen in free.items():
        assert fixed[name].total == seen.total
    np.testing.assert_array_equal(fixed["x"].counts, free["x"].counts)


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    peaks = []
    for count in (8, 64):
        place = context(tmp_path, images(count))
        observe(net(), context(tmp_path, images(2)))
        tracemalloc.start()
        observe(net(), place)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.1


def test_nothing_stays_in_the_scratch_folder(tmp_path: Path) -> None:
    apply_step(net(), StaticInt8(), context(tmp_path))
    assert not list(tmp_path.iterdir())
