"""The order in which blocks go back to float, and which return to int8."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hasten.graph import Block
from hasten.measure.clock import Deadline
from hasten.measure.statistics import Interval
from hasten.tune.mixtures import ALL_INT8, Kept
from hasten.tune.reversion import by_accuracy, by_ratio, costless, requantize, revert
from hasten.tune.sensitivity import Sensitivity

NEVER, OVER = Deadline.after(None), Deadline.after(0.0)


def sensitivity(
    name: str, noise: float = 0.0, *, regained: float = 0.0, lost: float = 0.0, within: float = 0.01
) -> Sensitivity:
    """A block whose float costs this share of time, known to within so much."""
    speedup = Interval(1 / (1 + lost), 1 / (1 + lost + within), 1 / (1 + lost - within))
    return Sensitivity(Block(name, (name,)), 20.0, noise, regained, speedup)


def test_blocks_that_are_faster_in_float_cost_nothing() -> None:
    found = [sensitivity("fast", lost=-0.05), sensitivity("even"), sensitivity("slow", lost=0.05)]
    assert costless(found) == {"fast"}


def test_most_accuracy_for_its_time_comes_first() -> None:
    found = [
        sensitivity("dear", 0.5, lost=0.5),
        sensitivity("cheap", 0.3, lost=0.05),
        sensitivity("harmful", -0.1, lost=0.1),
    ]
    assert by_ratio(found) == ["cheap", "dear", "harmful"]
    assert by_accuracy(found)[0] == "dear"


def test_a_time_that_was_not_resolved_counts_as_what_it_may_be() -> None:
    vague = sensitivity("vague", 0.2, lost=0.0, within=0.4)
    clear = sensitivity("clear", 0.2, lost=0.1, within=0.01)
    assert by_ratio([vague, clear]) == ["clear", "vague"]


def test_the_metric_comes_before_noise_where_only_accuracy_counts() -> None:
    found = [sensitivity("noisy", 0.9, regained=0.01), sensitivity("telling", regained=0.02)]
    assert by_accuracy(found) == ["telling", "noisy"]


def test_a_block_without_time_or_noise_known_is_last() -> None:
    unknown = Sensitivity(Block("unknown", ("unknown",)))
    assert by_ratio([unknown, sensitivity("known", 0.1)]) == ["known", "unknown"]


def test_after_the_deadline_nothing_is_looked_at() -> None:
    def never(kept: Kept) -> float:
        raise AssertionError(kept)

    assert revert(ALL_INT8, ["a"], never, 0.0, OVER) == [ALL_INT8]
    assert requantize(frozenset("a"), [sensitivity("a")], never, 0.0, OVER) == [frozenset("a")]


def test_blocks_that_are_faster_in_float_stay_there() -> None:
    found = [sensitivity("fast", lost=-0.1), sensitivity("slow", lost=0.1)]
    assert requantize(frozenset({"fast", "slow"}), found, lambda _: 0.0, 0.0, NEVER)[-1] == {"fast"}


blocks = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 0.5)), min_size=1, max_size=8
)  # noise and time of each


@given(blocks=blocks, share=st.floats(0, 1))
def test_what_is_found_holds_and_no_block_of_it_can_be_spared(
    blocks: list[tuple[float, float]], share: float
) -> None:
    cost = {f"b{at}": noise for at, (noise, _) in enumerate(blocks)}
    found = [
        sensitivity(name, noise, lost=time)
        for (name, noise), (_, time) in zip(cost.items(), blocks, strict=True)
    ]
    max_drop = share * sum(cost.values())

    def drop(kept: Kept) -> float:
        return sum(noise for name, noise in cost.items() if name not in kept)

    start = costless(found)
    states = revert(start, by_ratio(found), drop, max_drop, NEVER)
    assert drop(states[-1]) <= max_drop + 1e-9
    assert all(drop(state) > max_drop + 1e-9 for state in states[:-1])
    last = requantize(states[-1], found, drop, max_drop, NEVER)[-1]
    assert drop(last) <= max_drop + 1e-9
    assert all(drop(last - {name}) > max_drop + 1e-9 for name in last - start)
