"""Progress bars on stderr: for stages that take longer than two seconds, on a terminal only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hasten.cli.terminal import terminal
from hasten.printable import printable
from hasten.progress import Advance, Progress, Quiet

__all__ = ["shown"]

_SILENT_S = 2.0


def shown() -> Progress:
    """Return bars where stderr is a terminal, silence where it is not."""
    console = terminal(stderr=True)
    return _Bars(console) if console.is_terminal else Quiet()


class _Bars:
    """One bar at a time, gone when its stage ends."""

    def __init__(self, console: object) -> None:
        self._console = console

    @contextmanager
    def stage(self, title: str, total: int | None) -> Iterator[Advance]:
        """Show a bar once the stage has lasted two seconds."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        assert isinstance(self._console, Console)  # noqa: S101
        bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn() if total else TextColumn(""),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        )
        task = bar.add_task(printable(title), total=total)
        timer = threading.Timer(_SILENT_S, bar.start)
        timer.daemon = True
        timer.start()
        try:
            yield lambda amount: bar.advance(task, amount)
        finally:
            timer.cancel()
            bar.stop()
