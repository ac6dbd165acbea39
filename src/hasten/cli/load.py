"""``hasten load``: ask a server from outside, and say what it can do."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from hasten.cli.options import Flag, seconds
from hasten.cli.output import print_json
from hasten.cli.progress import shown
from hasten.cli.terminal import readable, terminal
from hasten.errors import OptionError
from hasten.graph import require_free_file, write_whole
from hasten.load_generator.comparison import LoadComparison, compare_loads
from hasten.load_generator.limit import Limit
from hasten.load_generator.limit import find_limit as find
from hasten.load_generator.result import LoadResult
from hasten.load_generator.run import load as load_once
from hasten.load_generator.service import serving
from hasten.load_generator.wanted import Wanted
from hasten.measure.environment import environment
from hasten.printable import printable

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["load"]

_Found = LoadResult | LoadComparison | Limit


def load(
    url: str,
    *,
    model: str | None = None,
    scenario: Literal["closed", "server", "offline", "single-stream", "multi-stream"] | None = None,
    concurrency: int | None = None,
    rate: float | None = None,
    arrivals: str | None = None,
    duration: str = "10s",
    queries: int = 0,
    batch: int | None = None,
    find_limit: Flag = False,
    p99_ms: float | None = None,
    data: str | None = None,
    expected: Path | None = None,
    tensors: Literal["binary", "json"] = "binary",
    against: str | None = None,
    page: Path | None = None,
    force: Flag = False,
    warm_up: str = "1s",
    timeout: str = "10s",
    connections: int = 512,
    seed: int = 0,
    json: Flag = False,
) -> int:
    """Load a server, and say what it can do.

    Parameters
    ----------
    url
        A server of the V2 inference protocol, or a bundle or model file, which is served meanwhile.
    model
        The model to ask for; not needed where the server has only one.
    scenario
        closed keeps requests in flight; server sends them at a rate; offline all at once;
        single-stream one after another; multi-stream the same with eight samples each.
    concurrency
        Requests in flight, for closed and offline.
    rate
        Requests a second, for server.
    arrivals
        constant, poisson, or a file with the time of one arrival a line, in seconds.
    duration
        How long to send.
    queries
        Send at least so many, however long it takes.
    batch
        Samples in each request.
    find_limit
        Search for the highest rate that holds --p99-ms.
    p99_ms
        The goal: 99 % of the requests are answered well within so many milliseconds.
    data
        Samples to send; random ones by default.
    expected
        Outputs that the samples should get, an .npz; every answer is compared.
    tensors
        Send and receive raw bytes, or numbers as JSON.
    against
        A second server, or bundle: both are loaded in turns, and compared.
    page
        Write the result as a page, too.
    force
        Replace the page that is there.
    warm_up
        Load as long before it counts; 0 for none.
    timeout
        Give a request up after so long.
    connections
        As many connections at most.
    seed
        Decides arrivals and random samples.
    json
        Print one JSON document.
    """
    wanted = Wanted(
        scenario or ("server" if find_limit else None),
        concurrency,
        rate,
        arrivals,
        seconds(duration, "--duration"),
        queries,
        batch,
        p99_ms,
        data,
        expected,
        tensors,
        0.0 if warm_up in {"0", "0s"} else seconds(warm_up, "--warm-up"),
        seconds(timeout, "--timeout"),
        connections,
        seed,
    )
    if against is not None and find_limit:
        raise OptionError(expected="one server", got="--against", where="--find-limit")
    wanted.check(needs_rate=not find_limit)
    if page is not None:
        require_free_file(page, force=force)
    found = _measure(url, against, model, wanted, find_limit=find_limit)
    if page is not None:
        _write_page(found, page)
    return _print(found, page, as_json=json)


def _measure(
    url: str, against: str | None, model: str | None, wanted: Wanted, *, find_limit: bool
) -> _Found:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hasten-")))
        server = stack.enter_context(serving(url, wanted.timeout_s))
        if against is not None:
            other = stack.enter_context(serving(against, wanted.timeout_s))
            # What is served from a path has its own name.
            names = [None if "://" not in each else model for each in (url, against)]
            return compare_loads(
                (server, names[0]),
                (other, names[1]),
                wanted,
                scratch=scratch,
                progress=shown(),
            )
        measure = find if find_limit else load_once
        return measure(server, model, wanted, scratch=scratch, progress=shown())


def _write_page(found: _Found, page: Path) -> None:
    from hasten import report

    around = environment()
    if isinstance(found, LoadComparison):
        text = report.comparison_page(found, around)
    elif isinstance(found, Limit):
        text = report.limit_page(found, around)
    else:
        text = report.load_page(found, around)
    write_whole(page, text.encode())


def _print(found: _Found, page: Path | None, *, as_json: bool) -> int:
    """Print what was found; returns the exit status."""
    if as_json:
        print_json({"environment": environment(), **msgspec.to_builtins(found)})
    else:
        console = terminal()
        console.print(_summary(readable(found)))
        if page is not None:
            console.print(f"page  {printable(str(page))}")
    return 1 if found.unmet or found.void else 0


def _summary(found: _Found) -> RenderableType:
    from hasten import report

    if isinstance(found, LoadComparison):
        return report.comparison_summary(found)
    if isinstance(found, Limit):
        return report.limit_summary(found)
    return report.load_summary(found)
