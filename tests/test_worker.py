"""A worker process measures what it opened: times, predictions and memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from hasten.data.answers import read_runs
from hasten.errors import RuntimeFailureError
from hasten.graph import model_from_proto
from hasten.runtimes import Execution
from hasten.worker.process import Worker
from onnx_models import linear, model, run, value
from workers import LIMIT_S, begin_null, lowered, open_module, open_null, saved_samples

pytestmark = pytest.mark.quiet


def test_it_measures_as_many_runs_as_are_asked_for(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        opened = open_null(worker, tmp_path, cost_ns=2_000_000)
        times = worker.measure(5, 2, LIMIT_S)
    assert opened.open_ns > 2_000_000
    assert len(times.runs_ns) == 5
    assert all(ns >= 2_000_000 for ns in times.runs_ns)


def test_the_time_per_item_counts_the_batch(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        open_null(worker, tmp_path, execution=Execution(batch=4), cost_ns=4_000_000)
        assert 1_000_000 <= worker.measure(5, 1, LIMIT_S).item_ns < 3_000_000


def test_fewer_samples_than_a_batch_are_repeated_to_fill_it(tmp_path: Path) -> None:
    only_eights = model(
        [helper.make_node("Reshape", ["x", "eights"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["m", 8, 4])],
        [numpy_helper.from_array(np.array([-1, 8, 4]), "eights")],
    )
    samples = saved_samples(tmp_path / "samples", count=3)
    with Worker(tmp_path) as worker:
        candidate = lowered("onnxruntime", only_eights, tmp_path)
        worker.open("onnxruntime", candidate, Execution(batch=8), samples, LIMIT_S)
        assert len(worker.measure(3, 0, LIMIT_S).runs_ns) == 3


def test_instances_run_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "        import time\n        time.sleep(0.05)\n        return x + 1"
    with Worker(tmp_path) as worker:
        open_module(worker, tmp_path, code, Execution(instances=3))
        times = worker.measure(2, 1, LIMIT_S)
    assert len(times.runs_ns) == 6
    assert 0.1e9 <= times.item_ns * 6 < 0.25e9


def test_predictions_are_those_of_the_model(tmp_path: Path) -> None:
    samples = saved_samples(tmp_path / "samples", count=5)
    with Worker(tmp_path) as worker:
        candidate = lowered("onnxruntime", linear(), tmp_path)
        worker.open("onnxruntime", candidate, Execution(), samples, LIMIT_S)
        worker.predict(samples, tmp_path / "out", 2, LIMIT_S)
    rows = np.arange(5, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    expected = run(model_from_proto(linear(), "net"), {"x": rows})["y"]
    runs = read_runs(tmp_path / "out")
    assert runs.samples == (2, 2, 1)
    np.testing.assert_allclose(np.concatenate(list(runs.outputs["y"])), expected, rtol=1e-5)


def test_peak_memory_grows_with_the_model(tmp_path: Path) -> None:
    big = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 2**21])],
        [numpy_helper.from_array(np.ones((4, 2**21), np.float32), "w")],
    )
    peaks = []
    for proto in (linear(), big):
        with Worker(tmp_path) as worker:
            samples = saved_samples(tmp_path / "samples")
            candidate = lowered("onnxruntime", proto, tmp_path)
            worker.open("onnxruntime", candidate, Execution(), samples, LIMIT_S)
            peaks.append(worker.peak_memory_bytes())
    assert peaks[0] > 10 * 2**20
    assert peaks[1] - peaks[0] > 30 * 2**20


def test_peak_memory_is_still_known_when_the_process_is_gone(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    assert worker.peak_memory_bytes() == 0
    open_null(worker, tmp_path)
    worker.close()
    assert worker.peak_memory_bytes() > 10 * 2**20


def test_what_a_library_prints_does_not_come_between_the_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "        import os\n        os.write(1, b'progress! ' * 9999)\n        return x"
    with Worker(tmp_path) as worker:
        open_module(worker, tmp_path, code)
        assert len(worker.measure(3, 1, LIMIT_S).runs_ns) == 3


def test_a_worker_opens_while_another_is_still_compiling(tmp_path: Path) -> None:
    with Worker(tmp_path) as stuck, Worker(tmp_path) as free:
        begin_null(stuck, tmp_path, fail="hang_compile")
        begin_null(free, tmp_path, cost_ns=1_000_000)
        assert free.opened(LIMIT_S).open_ns > 1_000_000
        assert len(free.measure(2, 0, LIMIT_S).runs_ns) == 2
        with pytest.raises(RuntimeFailureError, match=r"^hung while compiling: no answer"):
            stuck.opened(0.1)


def test_a_file_in_the_current_folder_does_not_stand_in_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(tmp_path)
    with Worker(tmp_path) as worker:
        open_null(worker, tmp_path)
