from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from hasten.errors import RuntimeFailureError
from hasten.graph import Signature, TensorSpec, TorchSource, model_from_proto
from hasten.measure.process import Worker
from hasten.runtimes import Execution, Lowered
from onnx_models import linear, model, run, value
from workers import LIMIT_S, lowered, null_model, open_null, saved_samples

pytestmark = pytest.mark.quiet

SIGNATURE = Signature((TensorSpec("x", "float32", (None, 4)),), (TensorSpec("y", "float32", ()),))


def children() -> set[int]:
    """Processes whose parent is this one, zombies among them."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for one in listed for pid in one.read_text().split()}


def pid_of(worker_of: Callable[[], Worker]) -> tuple[Worker, int]:
    before = children()
    worker = worker_of()
    (pid,) = children() - before
    return worker, pid


def state_of(pid: int) -> str:
    """State letter in /proc/<pid>/stat; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until(holds: Callable[[], bool], limit_s: float = 10.0) -> bool:
    until = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def open_module(
    worker: Worker, folder: Path, code: str, execution: Execution | None = None
) -> None:
    """Open a PyTorch candidate whose ``forward`` has this body, in the module ``ways``."""
    module = f"import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n{code}\n"
    (folder / "ways.py").write_text(module)
    source = TorchSource("ways:Net", ("x",), ("y",))
    candidate = Lowered("", "pt2", SIGNATURE, source)
    samples = saved_samples(folder / "samples")
    worker.open("pytorch", candidate, execution or Execution(), samples, LIMIT_S)


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
        assert worker.predict(samples, tmp_path / "out", 2, LIMIT_S) is None
    rows = np.arange(5, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    expected = run(model_from_proto(linear(), "net"), {"x": rows})["y"]
    np.testing.assert_allclose(np.load(tmp_path / "out" / "0.npy"), expected, rtol=1e-5)


def test_nan_in_the_outputs_is_named(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        open_null(worker, tmp_path, fail="nan")
        problem = worker.predict(tmp_path / "samples", tmp_path / "out", 2, LIMIT_S)
    assert problem == "output 'y' sample 0 holds NaN"


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


@pytest.mark.parametrize(
    ("fail", "doing"), [("hang_compile", "compiling"), ("hang_run", "running")]
)
def test_a_hang_ends_with_the_time_limit(fail: str, doing: str, tmp_path: Path) -> None:
    worker, pid = pid_of(lambda: Worker(tmp_path))
    begin = time.monotonic()
    with worker, pytest.raises(RuntimeFailureError, match=rf"^hung while {doing}.* within") as hung:
        open_null(worker, tmp_path, limit_s=2.0, fail=fail)
    assert "\n" not in str(hung.value)
    assert time.monotonic() - begin < 3.0
    assert state_of(pid) == ""


def test_a_run_that_passes_its_limit_is_called_hung(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        open_null(worker, tmp_path, cost_ns=500_000_000)
        with pytest.raises(
            RuntimeFailureError, match=r"^hung while running: no answer within 0\.2 s$"
        ):
            worker.measure(10, 0, 0.2)


def test_a_crash_is_reported_with_the_name_of_its_signal(tmp_path: Path) -> None:
    with (
        Worker(tmp_path) as worker,
        pytest.raises(RuntimeFailureError, match=r"^crashed while running.*: SIGSEGV$"),
    ):
        open_null(worker, tmp_path, fail="crash")


def test_a_kill_is_reported_with_its_likely_cause(tmp_path: Path) -> None:
    worker, pid = pid_of(lambda: Worker(tmp_path))
    with worker:
        open_null(worker, tmp_path)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RuntimeFailureError, match=r"running: SIGKILL, as .* memory runs out$"):
            worker.measure(1, 0, LIMIT_S)


def test_an_exit_is_reported_with_the_last_line_it_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = (
        "        import os\n        os.write(2, b'first\\nout of licences\\n\\n')\n"
        "        os._exit(3)"
    )
    with (
        Worker(tmp_path) as worker,
        pytest.raises(RuntimeFailureError, match=r": exit status 3 \(out of licences\)$"),
    ):
        open_module(worker, tmp_path, code)


def test_what_a_library_prints_does_not_come_between_the_replies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = "        import os\n        os.write(1, b'progress! ' * 9999)\n        return x"
    with Worker(tmp_path) as worker:
        open_module(worker, tmp_path, code)
        assert len(worker.measure(3, 1, LIMIT_S).runs_ns) == 3


def test_a_failure_of_the_runtime_comes_back_as_its_own_line(tmp_path: Path) -> None:
    with (
        Worker(tmp_path) as worker,
        pytest.raises(RuntimeFailureError, match=r"^null could not compile: its metadata"),
    ):
        open_null(worker, tmp_path, fail="compile")


def test_after_a_failure_the_worker_still_answers(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        with pytest.raises(RuntimeFailureError, match="could not compile"):
            open_null(worker, tmp_path, fail="compile")
        open_null(worker, tmp_path)
        assert len(worker.measure(2, 0, LIMIT_S).runs_ns) == 2


def test_an_error_that_is_a_bug_comes_back_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with Worker(tmp_path) as worker:
        open_null(worker, tmp_path)
        with pytest.raises(
            RuntimeFailureError, match=r"^the worker process failed: FileExistsError: .*out'$"
        ):
            worker.predict(tmp_path / "samples", tmp_path / "out", 1, LIMIT_S)


def begin_null(worker: Worker, folder: Path, **behaviour: object) -> None:
    candidate = lowered("null", null_model(**behaviour), folder)
    worker.begin_open("null", candidate, Execution(), saved_samples(folder / "samples"))


def test_a_worker_opens_while_another_is_still_compiling(tmp_path: Path) -> None:
    with Worker(tmp_path) as stuck, Worker(tmp_path) as free:
        begin_null(stuck, tmp_path, fail="hang_compile")
        begin_null(free, tmp_path, cost_ns=1_000_000)
        assert free.opened(LIMIT_S).open_ns > 1_000_000
        assert len(free.measure(2, 0, LIMIT_S).runs_ns) == 2
        with pytest.raises(RuntimeFailureError, match=r"^hung while compiling: no answer"):
            stuck.opened(0.1)


def test_a_worker_that_has_died_says_so_once_it_is_waited_for(tmp_path: Path) -> None:
    worker, pid = pid_of(lambda: Worker(tmp_path))
    with worker:
        os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: state_of(pid) in {"", "Z"})
        begin_null(worker, tmp_path)
        with pytest.raises(RuntimeFailureError, match=r"^crashed while compiling: SIGKILL"):
            worker.opened(LIMIT_S)
        begin_null(worker, tmp_path)
        with pytest.raises(RuntimeFailureError, match=r"the worker process is gone"):
            worker.opened(LIMIT_S)


def test_measuring_before_opening_is_a_failure(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker, pytest.raises(RuntimeFailureError, match=r"^nothing is open$"):
        worker.measure(1, 0, LIMIT_S)


def test_it_is_stopped_between_requests(tmp_path: Path) -> None:
    worker, pid = pid_of(lambda: Worker(tmp_path))
    with worker:
        open_null(worker, tmp_path)
        assert wait_until(lambda: state_of(pid) == "T")
        worker.measure(1, 0, LIMIT_S)
        assert wait_until(lambda: state_of(pid) == "T")


def test_closing_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    worker, pid = pid_of(lambda: Worker(tmp_path))
    open_null(worker, tmp_path)
    worker.close()
    assert state_of(pid) == ""
    assert children() == before


def test_closing_one_that_is_still_starting_leaves_no_process(tmp_path: Path) -> None:
    worker, pid = pid_of(lambda: Worker(tmp_path))
    worker.close()
    assert state_of(pid) == ""


def test_what_the_candidate_started_ends_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    noted = tmp_path / "child"
    code = (
        "        import subprocess\n"
        "        child = subprocess.Popen(['sleep', '600'])\n"
        f"        open({str(noted)!r}, 'w').write(str(child.pid))\n"
        "        return x"
    )
    with Worker(tmp_path) as worker:
        open_module(worker, tmp_path, code)
        child = int(noted.read_text())
        assert wait_until(lambda: state_of(child) == "S")
    assert wait_until(lambda: state_of(child) in {"", "Z"})


def test_a_crash_is_noticed_though_a_child_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code = (
        "        import os, subprocess\n"
        "        subprocess.Popen(['sleep', '600'], close_fds=False)\n"
        "        os._exit(4)"
    )
    with Worker(tmp_path) as worker, pytest.raises(RuntimeFailureError, match="exit status 4"):
        open_module(worker, tmp_path, code)


def test_closing_again_is_harmless(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.close()
    worker.close()


@pytest.mark.parametrize("fail", ["crash", "hang_run"])
def test_closing_after_a_crash_or_hang_is_harmless(fail: str, tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    with pytest.raises(RuntimeFailureError):
        open_null(worker, tmp_path, limit_s=2.0, fail=fail)
    worker.close()
    worker.close()


def test_asking_one_that_is_gone_says_why_it_is(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        with pytest.raises(RuntimeFailureError):
            open_null(worker, tmp_path, fail="crash")
        with pytest.raises(RuntimeFailureError, match=r"process is gone \(crashed while running"):
            worker.measure(1, 0, LIMIT_S)


def test_ctrl_c_while_waiting_ends_the_process(tmp_path: Path) -> None:
    worker, pid = pid_of(lambda: Worker(tmp_path))
    with worker:
        open_null(worker, tmp_path, cost_ns=200_000_000)
        threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            worker.measure(300, 0, LIMIT_S)
        assert state_of(pid) == ""


def test_workers_leak_no_file_descriptor(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = descriptors()
    for _ in range(20):
        with Worker(tmp_path):
            pass
    assert descriptors() == before


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path) -> None:
    scratch = tmp_path / "new" / "scratch"
    with Worker(scratch) as worker:
        open_null(worker, tmp_path)
    assert list(scratch.iterdir()) == []


def test_a_file_in_the_current_folder_does_not_stand_in_for_a_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random')")
    monkeypatch.chdir(tmp_path)
    with Worker(tmp_path) as worker:
        open_null(worker, tmp_path)


_PARENT = """
import sys, time
from pathlib import Path
sys.path[:0] = {tests!r}
from hasten.measure.process import Worker
from test_worker import pid_of
from workers import open_null
folder = Path({folder!r})
worker, pid = pid_of(lambda: Worker(folder))
if {opened}:
    open_null(worker, folder)
print(pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("opened", [True, False])
def test_a_worker_dies_with_its_parent(opened: bool, tmp_path: Path) -> None:
    """A stopped one too: it could not read that its pipe is closed."""
    code = _PARENT.format(tests=[str(Path(__file__).parent)], folder=str(tmp_path), opened=opened)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if opened:
            assert wait_until(lambda: state_of(pid) == "T")
        parent.kill()
    assert wait_until(lambda: state_of(pid) in {"", "Z"})
