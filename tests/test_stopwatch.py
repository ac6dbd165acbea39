"""The stopwatch of steps with a goal in latency, on real worker processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasten.compress.pruning.groups import channel_map
from hasten.compress.pruning.removal import pruned
from hasten.compress.pruning.touched_part import part, touched_nodes
from hasten.errors import RuntimeFailureError
from hasten.graph import model_from_proto
from hasten.runtimes import Execution
from hasten.tune.stopwatch import RuntimeStopwatch
from nets import conv_net
from workers import null_model

pytestmark = pytest.mark.quiet


def test_a_model_that_takes_longer_has_the_larger_time(tmp_path: Path) -> None:
    stopwatch = RuntimeStopwatch(tmp_path, "null", Execution())
    series = [
        [null_model(cost_ns=cost) for cost in (4_000_000, 2_000_000, 1_000_000)],
        [null_model(cost_ns=cost) for cost in (1_000_000, 3_000_000)],
    ]
    (first, second, third), (fourth, fifth) = stopwatch(series, rounds=2)
    assert first > second > third > 0
    assert fifth > fourth


def test_a_model_that_fails_is_a_failure(tmp_path: Path) -> None:
    stopwatch = RuntimeStopwatch(tmp_path, "null", Execution())
    with pytest.raises(RuntimeFailureError, match="null could not compile"):
        list(stopwatch([[null_model(), null_model(fail="compile")]], rounds=1))


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path) -> None:
    stopwatch = RuntimeStopwatch(tmp_path / "scratch", "null", Execution())
    list(stopwatch([[null_model(), null_model(cost_ns=1000)]], rounds=1))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_parts_of_a_graph_are_timed_on_a_real_runtime(tmp_path: Path) -> None:
    found = channel_map(conv_net())
    graph = pruned(found, {})
    parts = [part(graph, touched_nodes(found, group.name)) for group in found.groups]
    models = [model_from_proto(each, "part") for each in parts]
    stopwatch = RuntimeStopwatch(tmp_path, execution=Execution())
    ((first, second),) = stopwatch([models[:1] * 2], rounds=1)
    assert first > 0
    assert second > 0
