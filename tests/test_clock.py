from __future__ import annotations

import math

from hasten.measure.clock import Deadline


class Clock:
    """A clock that stands still until it is told the time."""

    def __init__(self, now_s: float = 100.0) -> None:
        self.now_s = now_s

    def __call__(self) -> int:
        return int(self.now_s * 1e9)


def test_time_left_shrinks_as_the_clock_runs() -> None:
    clock = Clock()
    deadline = Deadline.after(5.0, clock)
    assert deadline.left_s == 5.0
    clock.now_s += 3
    assert deadline.left_s == 2.0


def test_it_has_passed_from_the_moment_itself_on() -> None:
    clock = Clock()
    deadline = Deadline.after(5.0, clock)
    clock.now_s += 4.9
    assert not deadline.passed
    clock.now_s = 105.0
    assert deadline.passed
    clock.now_s += 1
    assert deadline.left_s == -1.0


def test_a_deadline_after_none_never_comes() -> None:
    never = Deadline.after(None)
    assert never.left_s == math.inf
    assert not never.passed
    assert never.earlier_by(10.0) is never


def test_an_earlier_deadline_keeps_time_back() -> None:
    deadline = Deadline.after(10.0, Clock())
    assert deadline.earlier_by(4.0).left_s == 6.0
    assert deadline.earlier_by(14.0).passed


def test_deadlines_at_the_same_time_are_equal_on_one_clock() -> None:
    clock = Clock()
    assert Deadline.after(1.0, clock) == Deadline.after(1.0, clock)
