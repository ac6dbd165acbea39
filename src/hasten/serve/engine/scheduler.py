"""Which requests run next, and together: batch while busy. It knows no threads and no clock.

While an executor is free, what waits is dispatched at once; while all are busy the queue grows and
the next batch takes it. The larger the load, the larger the batches, with nothing to tune. Each
call is told the time; a simulation drives it as the engine does.
"""

from __future__ import annotations

from bisect import bisect_left

from hasten.errors import ExpiredError, HastenError, OverloadedError
from hasten.serve.engine.batch_times import BatchTimes
from hasten.serve.engine.queue import RequestQueue
from hasten.serve.engine.request import NEVER_NS, Batch, Request
from hasten.serve.engine.settings import QueuePolicy, ServingSettings
from hasten.serve.engine.standing_queue import StandingQueue
from hasten.serve.engine.suspects import Apart

__all__ = ["Scheduler"]

#: Batches after which the model of their times is asked anew how large they should be.
_REVIEW_EVERY = 64
#: Reviews after which sizes are tried afresh; before, at each that is a power of two, since what
#: the warm-up timed was alone on the machine.
_AFRESH_EVERY = 32
#: A larger batch is taken where it answers at least this share of the best rows a second.
_CLOSE = 0.98
#: The queue stands once requests would have been late for so many times the latency goal.
_STANDING_GOALS = 20
#: Runs of suspects that failed take one part in so many of the time while others ask too.
_FAILING_SHARE = 20
#: What one costs at least: an exception on its way out, a turn of the loop, an answer.
_FAILING_NS = 250_000


class Scheduler:
    """The queue of one model and the rule that empties it.

    ``sizes`` are the batch sizes that executors run, rising; what lies between is padded to the
    next. ``dropped`` are requests that were taken off the queue unanswered, for the caller to
    tell. After a ``take`` that gathers, ``wake_ns`` is when to take again.
    """

    def __init__(
        self,
        settings: ServingSettings,
        sizes: tuple[int, ...] = (1,),
        *,
        executors: int = 1,
        times: BatchTimes | None = None,
    ) -> None:
        self._settings = settings
        self._batching = settings.batching
        self._sizes = sizes
        self._executors = executors
        self._queue = RequestQueue()
        self._running: dict[Batch, float] = {}
        self._sequence = 0
        self._since_review = self._reviews = 0
        self._delay_ns = self._batching.max_queue_delay_microseconds * 1000
        #: Until when suspects are held back, for how long that was, and when others last ran.
        self._held_ns = self._penalty_ns = 0
        self._others_ns = -NEVER_NS
        goal = settings.latency_goal_ms
        self._goal_ns = int(goal * 1e6) if goal else 0
        self._overload = StandingQueue(_STANDING_GOALS * self._goal_ns)
        policies = (
            self._batching.default_queue_policy,
            *self._batching.priority_queue_policy.values(),
        )
        #: Whether all requests are alike: who comes first is served first, and none is refused.
        self._plain = not goal and all(one == QueuePolicy() for one in policies)
        self._plain = self._plain and not self._batching.priority_levels
        #: Whether requests may expire while they wait.
        self.bounded = bool(goal) or any(
            one.default_timeout_microseconds or one.allow_timeout_override for one in policies
        )
        self.times = times or BatchTimes()
        self.dropped: list[tuple[Request, HastenError]] = []
        self.wake_ns = NEVER_NS
        self.review()

    @property
    def cap(self) -> int:
        """Rows of the largest batch that is taken now."""
        return self._cap

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    def review(self, *, afresh: bool = False) -> None:
        """Ask the model of times how large batches should be.

        ``afresh`` lets them be of any size until the next review: a size that looked bad once, when
        the machine was busy, would never be run again and so never look better.
        """
        times, sizes = self.times, self._sizes
        trusted = times.known and not afresh
        cap = times.worthwhile(sizes) if trusted else sizes[-1]
        if self._goal_ns and times.known:
            cap = min(cap, times.largest_within(sizes, self._goal_ns / 2))
        self._cap = cap
        self._takes = self._best_takes(cap, trusted=trusted)

    def _best_takes(self, cap: int, *, trusted: bool) -> list[int]:
        """Return, for each number of rows that wait, how many of them make the best batch.

        All of them, padded to the next size, unless a full smaller size answers clearly more rows
        a second; preferred sizes come before either.
        """
        preferred = sorted(self._batching.preferred_batch_size)
        takes, best, best_rate = [0], 0, 0.0
        full = iter((*(size for size in self._sizes if size <= cap), 0))
        next_full = next(full)
        for rows in range(1, cap + 1):
            rate = rows / max(1.0, self.times.expect(self.size_of(rows)))
            if rows == next_full:
                next_full = next(full)
                if rate >= _CLOSE * best_rate:
                    best, best_rate = rows, max(rate, best_rate)
            take = rows if not trusted or rate >= _CLOSE * best_rate else best
            wished = [size for size in preferred if size <= rows]
            takes.append(wished[-1] if wished else take)
        return takes

    def size_of(self, rows: int) -> int:
        """Return the size that so many rows run with; themselves above the largest."""
        sizes = self._sizes
        return sizes[bisect_left(sizes, rows)] if rows <= sizes[-1] else rows

    def admit(self, request: Request, now_ns: int, timeout_us: int = 0) -> None:
        """Queue a request, or raise OverloadedError.

        ``timeout_us`` is the request's own bound on waiting, where the policy allows one.
        """
        self._sequence += 1
        request.sequence = self._sequence
        if self._plain:
            self._queue.append(request)
            return
        policy = self._batching.policy(request.priority)
        limit = policy.max_queue_size
        if limit and self._queue.waiting(request.priority) >= limit:
            raise OverloadedError(
                f"Exceeds maximum queue size of {limit} requests", retry_after_s=self._drain_s()
            )
        timeout = policy.default_timeout_microseconds
        if timeout_us and policy.allow_timeout_override:
            timeout = min(timeout, timeout_us) if timeout else timeout_us
        if timeout:
            request.queue_limit_ns = request.arrival_ns + timeout * 1000
        if self._goal_ns:
            request.deadline_ns = request.arrival_ns + self._goal_ns
            self._refuse_late(request, now_ns)
        self._queue.push(request)

    def _refuse_late(self, request: Request, now_ns: int) -> None:
        """Raise OverloadedError for what would miss the latency goal, once the queue stands."""
        late_ns = self._finish_ns(request, now_ns) - request.deadline_ns
        # Where nothing is before it, its own time is news.
        if late_ns <= 0 or not (len(self._queue) or self._running):
            self._overload.in_time(now_ns)
        elif self._overload.late(now_ns):
            raise OverloadedError(
                f"Cannot be answered within the latency goal of"
                f" {self._settings.latency_goal_ms:g} ms: {len(self._queue)} requests wait",
                retry_after_s=late_ns / 1e9,
            )

    def _finish_ns(self, request: Request, now_ns: int) -> float:
        """Expect when a request that came now would be answered."""
        cap, times = self._cap, self.times
        busy = sum(max(0.0, end - now_ns) for end in self._running.values())
        full, rest = divmod(self._queue.rows, cap)
        ahead = busy + full * times.expect(cap)
        own = times.expect(self.size_of(min(cap, rest + request.rows)))
        return now_ns + ahead / self._executors + own

    def _drain_s(self) -> float:
        batches = -(-self._queue.rows // self._cap)
        return batches * self.times.expect(self._cap) / self._executors / 1e9

    def cancel(self, request: Request) -> None:
        """Forget a request that waits: nobody wants its answer."""
        self._queue.cancel(request)

    def take(self, now_ns: int) -> Batch | None:
        """Return the batch that a free executor should run now, or None."""
        queue = self._queue
        self.wake_ns = NEVER_NS
        while len(queue):
            some_wait = self._delay_ns or now_ns < self._held_ns
            head = self._ready(now_ns) if some_wait else queue.head()
            if head is None:
                return None
            key = head.key
            if isinstance(key, Apart):
                rows = head.rows
            else:
                rows = max(self._takes[min(queue.rows_of(key), self._cap)], head.rows)
                self._others_ns = now_ns
            requests = queue.take(key, rows) if self._plain else self._pop(head, rows, now_ns)
            if requests:
                batch = Batch(requests, sum(one.rows for one in requests))
                batch.size = self.size_of(batch.rows)
                batch.begin_ns = now_ns
                self._running[batch] = now_ns + self.times.expect(batch.size)
                return batch
        return None

    def urges(self, now_ns: int) -> bool:
        """Whether somebody waits who need not: whoever does is taken at ``wake_ns``."""
        if self._delay_ns or now_ns < self._held_ns:
            return len(self._queue) > 0 and self._ready(now_ns) is not None
        return len(self._queue) > 0

    def _ready(self, now_ns: int) -> Request | None:
        """Return the first that need not wait: its line is full or has gathered for long enough.

        Each key gathers for itself: a full batch does not wait for a lone request before it, and
        that one is the first of all once its own delay has passed.
        """
        if not self._delay_ns:
            return self._first_of_others(now_ns)
        queue, ready = self._queue, None
        enough = min((*self._batching.preferred_batch_size, self._cap))
        fronts = list(queue.fronts())
        # Where nobody else asks there is nobody to be protected from suspects.
        others_ask = any(not isinstance(front.key, Apart) for front in fronts)
        others_ns = now_ns if others_ask else self._others_ns
        release_ns = min(self._held_ns, others_ns + self._penalty_ns)
        self.wake_ns = NEVER_NS
        for front in fronts:
            until = 0
            if isinstance(front.key, Apart):
                until = release_ns
            elif queue.rows_of(front.key) < enough:
                until = queue.oldest_ns(front.key) + self._delay_ns
            if now_ns < until:
                self.wake_ns = min(self.wake_ns, until)
            elif ready is None or front.precedes(ready):
                ready = front
        return ready

    def _first_of_others(self, now_ns: int) -> Request | None:
        """Return the first while suspects are held back; nothing gathers here."""
        first = apart = None
        for front in self._queue.fronts():
            if isinstance(front.key, Apart):
                if apart is None or front.precedes(apart):
                    apart = front
            elif first is None or front.precedes(first):
                first = front
        self.wake_ns = NEVER_NS
        if apart is None:
            return first
        others_ns = now_ns if first is not None else self._others_ns
        release_ns = min(self._held_ns, others_ns + self._penalty_ns)
        if now_ns < release_ns:
            self.wake_ns = release_ns
            return first
        return apart if first is None or apart.precedes(first) else first

    def _pop(self, head: Request, rows: int, now_ns: int) -> list[Request]:
        """Take up to so many rows off the queue, and drop those that are too late.

        What misses the latency goal is dropped where the queue stands; a late answer after a burst
        is better than none.
        """
        queue, key, taken, found = self._queue, head.key, 0, []
        stands, finish = self._overload.stands, now_ns
        if stands:
            expected = self.times.expect(self.size_of(rows)) * self.times.tail_factor
            # Were times to grow beyond the goal, nothing would run that could tell of better ones.
            finish += min(int(expected), self._goal_ns // 2)
        while taken < rows:
            request = queue.pop(key, rows - taken)
            if request is None:
                break
            if request.queue_limit_ns <= now_ns:
                self._timed_out(request, now_ns)
            elif stands and request.deadline_ns < finish:
                self._drop(request, "would miss its latency goal")
            else:
                found.append(request)
                taken += request.rows
                continue
            # More rows than a batch may have were meant for the head alone.
            rows = min(rows, self._cap)
        return found

    def _timed_out(self, request: Request, now_ns: int) -> None:
        """Refuse what waited too long, or serve it after all others if its policy says so."""
        policy = self._batching.policy(request.priority)
        if policy.timeout_action == "REJECT":
            waited_ms = (now_ns - request.arrival_ns) / 1e6
            self._drop(request, f"waited {waited_ms:.1f} ms, longer than its timeout")
            return
        request.queue_limit_ns = NEVER_NS
        request.priority += self._batching.priority_levels + 1
        self._queue.push(request)

    def _drop(self, request: Request, why: str) -> None:
        self.dropped.append((request, ExpiredError(f"The request {why}")))

    def finished(self, batch: Batch) -> None:
        """Learn from a batch that was run."""
        self._running.pop(batch, None)
        if batch.error is None:
            self.times.observe(batch.size, batch.end_ns - batch.begin_ns)
        elif isinstance(batch.requests[0].key, Apart):
            took_ns = max(batch.end_ns - batch.begin_ns, _FAILING_NS)
            self._penalty_ns = (_FAILING_SHARE - 1) * took_ns
            self._held_ns = batch.end_ns + self._penalty_ns
        self._since_review += 1
        if self._since_review >= max(_REVIEW_EVERY, len(self._sizes)):
            self._since_review = 0
            self._reviews += 1
            young = self._reviews < _AFRESH_EVERY and self._reviews.bit_count() == 1
            self.review(afresh=young or not self._reviews % _AFRESH_EVERY)

    def drain(self) -> list[Request]:
        """Give up all that wait."""
        return self._queue.drain()

    def expire(self, now_ns: int) -> None:
        """Drop what waited too long, wherever it is in the queue."""
        for request in self._queue.drain():
            if request.queue_limit_ns <= now_ns:
                self._timed_out(request, now_ns)
            elif self._overload.stands and request.deadline_ns <= now_ns:
                self._drop(request, "would miss its latency goal")
            else:
                self._queue.push(request)
