"""However a worker process ends, nothing of it is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from hasten.errors import RuntimeFailureError
from hasten.worker.process import Worker
from workers import LIMIT_S, children, open_module, open_null, pid_of, state_of, wait_until

pytestmark = pytest.mark.quiet


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


_PARENT = """
import sys, time
from pathlib import Path
sys.path[:0] = {tests!r}
from hasten.worker.process import Worker
from workers import open_null, pid_of
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
