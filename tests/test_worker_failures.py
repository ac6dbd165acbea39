"""What goes wrong in a worker process is told in one line, and within the time limit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from hasten.errors import RuntimeFailureError
from hasten.worker.process import Worker
from workers import LIMIT_S, begin_null, open_module, open_null, pid_of, state_of, wait_until

pytestmark = pytest.mark.quiet


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


def test_asking_one_that_is_gone_says_why_it_is(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        with pytest.raises(RuntimeFailureError):
            open_null(worker, tmp_path, fail="crash")
        with pytest.raises(RuntimeFailureError, match=r"process is gone \(crashed while running"):
            worker.measure(1, 0, LIMIT_S)
