"""What the rows say together: shares against their targets, and failures by their cause."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from figures import Figure
from zoo.row import Row

__all__ = ["causes", "figures", "shown", "told"]

_MEASURED = frozenset({"met", "missed"})
_ERRORS = frozenset({"traceback", "crashed", "hung"})
_OPERATOR = re.compile(r"(\w+) \(node [^)]*\)(?:: ([^;]*))?")
#: What belongs to one architecture: quoted, before "would be", a class, a node, or with a digit.
_OWN_NAMES = re.compile(
    r"'[^']*'|\S+ (?=would be)|(?<=converting )\w+|(?<=nn\.Module )\w+|\bnode\w*|\b\w*\d\w*\b"
)
_COLOURS = re.compile(r"\x1b?\[\d+m")
_CAUSE_LENGTH = 150


def shown(row: Row) -> str:
    """Return a row as a line: why it is not met, or its figures."""
    figures = ", ".join(f"{name} {value:.4g}" for name, value in row.figures.items())
    said = row.reason or figures
    return f"{row.architecture:<30} {row.what:<24} {row.kind:<9} {row.seconds:4.0f} s  {said}"


def causes(reason: str) -> list[str]:
    """Return what a refusal is about, without the names and numbers of one architecture.

    >>> causes("cannot be trained: operator GRU (node a), operator IsNaN (node b)")
    ['GRU', 'IsNaN']
    >>> causes("litert has no equal of: Gather (node x): x would be int64[2] instead of int64[3]")
    ['Gather: would be instead of']
    >>> causes("shape [2, 3] of 'a' - at node_7")
    ['shape of - at']
    """
    named = _OPERATOR.findall(reason)
    if named:
        each = [f"{operator}: {_general(why)}" if why else operator for operator, why in named]
        return list(dict.fromkeys(each))
    return [_general(reason)[:_CAUSE_LENGTH]]


def _general(text: str) -> str:
    words = _OWN_NAMES.sub("", _COLOURS.sub("", text.partition("\n")[0]))
    return " ".join(re.sub(r"[\[\](){},:=]+|(?<=\s)\.+", " ", words).split())


def told(rows: Sequence[Row]) -> Iterator[str]:
    """Yield what was not met: each figure that missed, and who was refused, by cause."""
    for what in dict.fromkeys(row.what for row in rows):
        bad = [row for row in rows if row.what == what and row.kind != "met"]
        if bad:
            yield f"\n{what}: {len(bad)} of {sum(row.what == what for row in rows)}"
        for row in bad:
            if row.kind == "missed":
                yield f"  {row.architecture}: {row.reason}"
        by_cause: dict[str, list[str]] = {}
        for row in bad:
            for cause in causes(row.reason) if row.kind != "missed" else ():
                by_cause.setdefault(f"{row.kind}: {cause}", []).append(row.architecture)
        for cause, names in sorted(by_cause.items(), key=lambda one: -len(one[1])):
            yield f"  {len(names):>2} {cause} ({', '.join(names)})"


def figures(rows: Sequence[Row]) -> Iterator[Figure]:
    """Yield what was measured of the parts that were run, against the targets."""
    for goal in _GOALS:
        of = [row for row in _rows_of(goal, rows) if row.kind not in goal.leaves_out]
        if of:
            met = sum(row.kind == "met" for row in of)
            share = f"{met} of {len(of)}, {met / len(of):.1%}"
            yield Figure(goal.told, share, f">= {goal.share:.1%}", met >= goal.share * len(of))
    for begin, line in _NEVER.items():
        of = [row for row in rows if row.what.startswith(begin) and row.kind in _MEASURED]
        if of:
            yield _none(line, sum(row.kind == "missed" for row in of), len(of))
    yield _none("traceback, crash or hang", sum(row.kind in _ERRORS for row in rows), len(rows))


def _rows_of(goal: _Goal, rows: Sequence[Row]) -> list[Row]:
    """Return a row for each architecture, also where the part ended before it gave one."""
    found = {row.architecture: row for row in rows if row.what == goal.what}
    for row in rows:
        ended = row.kind in _ERRORS or row.what == f"rest of {goal.part}"
        if ended and row.part == goal.part:
            found.setdefault(row.architecture, row)
    return list(found.values())


def _none(what: str, count: int, of: int) -> Figure:
    return Figure(what, f"{count} of {of}", "none", count == 0)


class _Goal(NamedTuple):
    """The share of a part's findings that has to be met; those of some kinds are left out."""

    part: str
    what: str
    told: str
    share: float
    leaves_out: frozenset[str] = frozenset()


_REFUSED = frozenset({"refused"})
_GOALS = (
    _Goal("trainable", "trainable", "trainable", 0.92),
    _Goal(
        "deployed",
        "deployed on onnxruntime",
        "trained is deployed, of those that train",
        45 / 48,
        _REFUSED,
    ),
    _Goal(
        "deployed",
        "deployed on litert",
        "trained is deployed on LiteRT, where it lowers",
        0.9,
        _REFUSED,
    ),
    _Goal("prunable", "prunable", "prunable", 60 / 62),
    _Goal("int8", "int8", "int8 of 15 dB and more", 0.9),
)
#: By how a finding's name begins, what must never be missed.
_NEVER = {
    "reconstructed": "reconstructed is worse than not",
    "harmless": "harmless change that fidelity refuses",
}
