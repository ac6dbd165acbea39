"""One server is loaded once: connect, warm up, run, and say what was seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hasten.load_generator.answers import Expected, check_answers, read_expected
from hasten.load_generator.generator import Generator
from hasten.load_generator.payload import Payload, build_payload
from hasten.load_generator.protocol import Open
from hasten.load_generator.record import Record
from hasten.load_generator.result import LoadResult, result_of
from hasten.load_generator.server import ServedModel, Server
from hasten.load_generator.wanted import Wanted
from hasten.progress import Progress

__all__ = ["Side", "describe", "load", "shares"]

_PARTS = 100


@dataclass(frozen=True)
class Side:
    """A server, its model and the pool of requests, which the generator has under a number."""

    server: Server
    model: ServedModel
    payload: Payload
    expected: Expected | None
    number: int

    @classmethod
    def open(
        cls,
        generator: Generator,
        server: Server,
        model_name: str | None,
        wanted: Wanted,
        scratch: Path,
    ) -> Side:
        """Read the model's metadata, build the requests and connect.

        Raises OptionError or DataError where the server cannot be asked for what is wanted.
        """
        model = server.model(model_name)
        payload = build_payload(
            server,
            model,
            data=wanted.data,
            tensors=wanted.tensors,
            samples_per_query=wanted.samples_per_query,
            seed=wanted.seed,
            scratch=scratch,
        )
        expected = None
        if wanted.expected is not None:
            expected = read_expected(wanted.expected, model.signature, payload)
        number = generator.aim(
            server.address,
            payload.requests,
            timeout_s=wanted.timeout_s,
            most_connections=max(wanted.connections, wanted.concurrency or 0),
            keep_answers=expected is not None or payload.labels is not None,
        )
        return cls(server, model, payload, expected, number)


def load(
    server: Server, model: str | None, wanted: Wanted, *, scratch: Path, progress: Progress
) -> LoadResult:
    """Load a server once. Raises InputError for what cannot be asked."""
    wanted.check()
    with Generator() as generator:
        side = Side.open(generator, server, model, wanted, scratch)
        with shares(progress, f"loading {server.url}") as advance:
            if wanted.warm_up_s > 0:
                generator.fire(side.number, wanted.warm_up())
            record = generator.fire(side.number, wanted.pattern(), advance=advance)
    return describe(record, side, wanted)


@contextmanager
def shares(progress: Progress, title: str) -> Iterator[Callable[[float], None]]:
    """Show a stage that is told what share of it is over."""
    with progress.stage(title, _PARTS) as advance:
        told = 0

        def so_far(share: float) -> None:
            nonlocal told
            done = int(share * _PARTS)
            if done > told:
                advance(done - told)
                told = done

        yield so_far


def describe(record: Record, side: Side, wanted: Wanted) -> LoadResult:
    """Say what a run against a side showed; its answers are checked here."""
    payload, rules = side.payload, wanted.rules
    answers = None
    if side.expected is not None or payload.labels is not None:
        answers = check_answers(record, payload, side.model.signature, side.expected)
    pattern = wanted.pattern()
    arrivals = pattern.arrivals if isinstance(pattern, Open) else None
    notes = []
    if payload.left_out:
        notes.append(f"{payload.left_out} samples were left out: the pool of requests is full")
    if rules.name == "server" and wanted.arrivals not in (None, "poisson"):
        notes.append("MLPerf's arrivals are Poisson, these are not")
    return result_of(
        record,
        url=side.server.url,
        model=side.model.name,
        scenario=rules,
        arrivals=type(arrivals).__name__.lower() if arrivals else "as answered",
        concurrency=None if arrivals else wanted.concurrency or rules.concurrency,
        offered_per_s=arrivals.rate_per_s if arrivals else None,
        samples_per_query=payload.samples_per_query,
        seed=wanted.seed,
        data=payload.source,
        goal_p99_ms=wanted.p99_ms,
        answers=answers,
        notes=notes,
    )
