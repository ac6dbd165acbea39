"""Whatever happens to a scheduler, in any order: no request is lost or answered twice."""

from __future__ import annotations

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hasten.errors import OverloadedError, RuntimeFailureError
from hasten.serve.engine.request import NEVER_NS, Batch, Request
from hasten.serve.engine.suspects import Apart
from scheduling import MS, finish, made, scheduler


class Life(RuleBasedStateMachine):
    """Whatever happens, every request that was admitted ends in exactly one way."""

    def __init__(self) -> None:
        super().__init__()
        batching = {
            "priority_levels": 2,
            "default_priority_level": 1,
            "max_queue_delay_microseconds": 200,
            "default_queue_policy": {
                "default_timeout_microseconds": 3000,
                "allow_timeout_override": True,
                "max_queue_size": 12,
            },
            "priority_queue_policy": {
                "2": {"default_timeout_microseconds": 2000, "timeout_action": "DELAY"}
            },
        }
        self.scheduler = scheduler(batching, executors=2, latency_goal_ms=20.0, row_ns=MS / 10)
        self.now = 0
        self.alive: list[Request] = []
        self.ended: list[Request] = []
        self.running: list[Batch] = []
        self.held_ns = 0

    @rule(
        rows=st.integers(1, 12),
        key=st.integers(0, 2) | st.builds(Apart, st.integers(0, 1)),
        priority=st.integers(1, 2),
        timeout_us=st.sampled_from([0, 100, 10_000]),
    )
    def arrive(self, rows: int, key: object, priority: int, timeout_us: int) -> None:
        request = made(self.now, rows=rows, key=key, priority=priority)
        try:
            self.scheduler.admit(request, self.now, timeout_us)
        except OverloadedError:
            pass
        else:
            self.alive.append(request)

    @rule(passed_us=st.integers(1, 5000))
    def wait(self, passed_us: int) -> None:
        self.now += passed_us * 1000

    @precondition(lambda self: len(self.running) < 2)
    @rule()
    def take(self) -> None:
        batch = self.scheduler.take(self.now)
        if batch is None:
            self.nothing_is_lost()
            self.all_gather()
            return
        assert len({request.key for request in batch.requests}) == 1
        assert batch.rows == sum(request.rows for request in batch.requests) <= batch.size
        assert batch.rows <= 8 or len(batch.requests) == 1
        assert not any(request.cancelled for request in batch.requests)
        self.end(*batch.requests)
        self.running.append(batch)

    def all_gather(self) -> None:
        """What was not taken has neither a full batch nor waited for its delay."""
        delay_ns = 200_000
        wake_ns = NEVER_NS
        for key in {request.key for request in self.alive}:
            line = [request for request in self.alive if request.key == key]
            until = min(request.arrival_ns for request in line) + delay_ns
            if isinstance(key, Apart):
                assert self.now < self.scheduler.wake_ns <= self.held_ns
                wake_ns = min(wake_ns, self.scheduler.wake_ns)
                continue
            assert sum(request.rows for request in line) < self.scheduler.cap
            assert self.now < until
            wake_ns = min(wake_ns, until)
        assert self.scheduler.wake_ns == wake_ns

    @precondition(lambda self: self.running)
    @rule(data=st.data(), fails=st.booleans())
    def finish(self, data: st.DataObject, *, fails: bool) -> None:
        batch = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        end_ns = max(self.now, batch.begin_ns + 1)
        if fails:
            batch.error = RuntimeFailureError("bad")
            if isinstance(batch.requests[0].key, Apart):
                self.held_ns = end_ns + 19 * max(250_000, end_ns - batch.begin_ns)
        finish(self.scheduler, batch, end_ns)

    @rule()
    def expire(self) -> None:
        self.scheduler.expire(self.now)

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.alive))
        self.scheduler.cancel(request)
        self.end(request)

    def end(self, *requests: Request) -> None:
        for request in requests:
            assert request in self.alive
            self.alive.remove(request)
            assert request not in self.ended
            self.ended.append(request)

    @invariant()
    def nothing_is_lost(self) -> None:
        dropped, self.scheduler.dropped = self.scheduler.dropped, []
        self.end(*(request for request, _ in dropped))
        assert self.scheduler.waiting == len(self.alive)
        assert sum(one.rows for one in self.alive) == self.scheduler._queue.rows

    def teardown(self) -> None:
        self.now += 10**9
        while self.scheduler.waiting:
            self.take_all()

    def take_all(self) -> None:
        batch = self.scheduler.take(self.now)
        if batch is not None:
            self.end(*batch.requests)
        self.nothing_is_lost()


TestLife = Life.TestCase
TestLife.settings = hypothesis_settings(stateful_step_count=40, deadline=None)
