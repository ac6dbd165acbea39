"""Placing labels beside points so that no two overlap and none hides a point."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

__all__ = ["Box", "Label", "Request", "place_labels", "wrap"]

#: Of the 12-pixel type that labels are set in; the width is that of a wide lower-case letter.
_LINE_PX, _LETTER_PX = 15.0, 6.7
_POINT_PX = 7.0

#: How far from its point a label may stand, nearest first, and on which side: the label's middle
#: lies (a * reach + b * half its width) to the right and (c * (reach + half its height)) down.
_REACHES = (10.0, 16.0, 24.0, 34.0, 46.0, 60.0, 78.0, 100.0, 130.0, 160.0)
_SIDES = (
    *((1, 1, 0), (-1, -1, 0), (0, 0, -1), (0, 0, 1)),
    *((0, 1, -1), (0, -1, -1), (0, 1, 1), (0, -1, 1)),
    *((1, 1, -1), (-1, -1, -1), (1, 1, 1), (-1, -1, 1)),
)
#: Up to here a label is seen to belong to its point; farther ones are tied to it by a leader.
_NEAR_PX = 16.0
_LEADER_PIECES = 8
#: A thin leader over a mark hides less of it than text would.
_LEADER_WEIGHT = 0.3


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    @classmethod
    def around(cls, x: float, y: float) -> Box:
        """Return the room that a point's mark takes."""
        return cls(x - _POINT_PX, y - _POINT_PX, x + _POINT_PX, y + _POINT_PX)

    def overlap(self, other: Box) -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(0.0, width) * max(0.0, height)

    def holds(self, other: Box) -> bool:
        """Whether the other lies wholly inside."""
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )


@dataclass(frozen=True)
class Request:
    """A wish for a label beside a point; unless ``required`` it yields where it is crowded."""

    x: float
    y: float
    lines: tuple[str, ...]
    kind: str
    required: bool = False


@dataclass(frozen=True)
class Label:
    """A placed label: ``x`` is its left edge, ``baselines`` has one per line of text."""

    x: float
    baselines: tuple[float, ...]
    lines: tuple[str, ...]
    kind: str
    box: Box
    leader: tuple[float, float, float, float] | None


def wrap(text: str, letters: int, most_lines: int = 3) -> tuple[str, ...]:
    """Break a text into lines of so many letters; what does not fit ends in an ellipsis.

    >>> wrap("static_int8 u8 openvino 2 threads", 16)
    ('static_int8 u8', 'openvino 2', 'threads')
    """
    lines = textwrap.wrap(
        text, letters, max_lines=most_lines, placeholder=" \N{HORIZONTAL ELLIPSIS}"
    )
    return tuple(lines) or ("",)


def place_labels(requests: Iterable[Request], taken: Iterable[Box], bounds: Box) -> list[Label]:
    """Place the labels one by one, each in the nearest free room inside ``bounds``.

    A required label for which no room is free goes where it hides least.
    """
    taken = list(taken)
    placed: list[Label] = []
    for request in requests:
        label = _place(request, taken, bounds)
        if label is not None:
            placed.append(label)
            taken += (label.box, *_along(label.leader))
    return placed


def _place(request: Request, taken: list[Box], bounds: Box) -> Label | None:
    reaches = [reach for reach in _REACHES if request.required or reach <= _NEAR_PX]
    choices = [
        (reach, _label(request, box, tied=reach > _NEAR_PX))
        for reach in reaches
        for box in _boxes(request, reach)
        if bounds.holds(box)
    ]

    def hidden(parts: Iterable[Box]) -> float:
        return sum(part.overlap(other) for part in parts for other in taken)

    def cost(choice: tuple[float, Label]) -> float:
        reach, label = choice
        return reach + hidden([label.box]) + _LEADER_WEIGHT * hidden(_along(label.leader))

    _, best = min(choices, key=cost, default=(0.0, None))
    if best is None or (not request.required and hidden([best.box]) > 0):
        return None
    return best


def _label(request: Request, box: Box, *, tied: bool) -> Label:
    first = box.top + _LINE_PX - 4
    baselines = tuple(round(first + index * _LINE_PX, 1) for index in range(len(request.lines)))
    leader = _leader(request, box) if tied else None
    return Label(round(box.left, 1), baselines, request.lines, request.kind, box, leader)


def _boxes(request: Request, reach: float) -> Iterator[Box]:
    half_width = max(len(line) for line in request.lines) * _LETTER_PX / 2
    half_height = len(request.lines) * _LINE_PX / 2
    for away, aligned, down in _SIDES:
        x = request.x + away * reach + aligned * half_width
        y = request.y + down * (reach + half_height)
        yield Box(x - half_width, y - half_height, x + half_width, y + half_height)


def _leader(request: Request, box: Box) -> tuple[float, float, float, float]:
    x = min(max(request.x, box.left), box.right)
    y = min(max(request.y, box.top), box.bottom)
    return (request.x, request.y, round(x, 1), round(y, 1))


def _along(leader: tuple[float, float, float, float] | None) -> Iterator[Box]:
    """Yield small boxes that cover a leader, so that later labels keep off it."""
    if leader is None:
        return
    x0, y0, x1, y1 = leader
    for piece in range(_LEADER_PIECES):
        share = (piece + 1) / _LEADER_PIECES
        x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
        yield Box(x - 3, y - 3, x + 3, y + 3)
