"""Whether so many requests are enough to speak of a percentile: MLPerf's early stopping.

A run of n requests of which t were late says with confidence c that a share p is in time, if with
late requests just at their limit, t or fewer would be seen with probability 1 - c at most (MLPerf
Inference Rules, appendix on early stopping; LoadGen's early_stopping.cc).
"""

from __future__ import annotations

import math

__all__ = ["confident", "least_queries"]

_CONFIDENCE = 0.99


def confident(late: int, total: int, percent: float) -> bool:
    """Whether the percentile is within its limit with 99 % confidence.

    662 requests are the least of which one may be late for the 99th percentile, and 64 for the
    90th: the numbers in MLPerf's rules.

    >>> confident(1, 662, 99), confident(1, 661, 99), confident(1, 64, 90), confident(1, 63, 90)
    (True, False, True, False)
    """
    allowed = 1 - percent / 100
    if late >= total * allowed:
        return False
    logs = [
        math.lgamma(total + 1)
        - math.lgamma(count + 1)
        - math.lgamma(total - count + 1)
        + count * math.log(allowed)
        + (total - count) * math.log(1 - allowed)
        for count in range(late + 1)
    ]
    highest = max(logs)
    log_chance = highest + math.log(sum(math.exp(one - highest) for one in logs))
    return log_chance <= math.log(1 - _CONFIDENCE)


def least_queries(percent: float) -> int:
    """Return the least number of requests that allow one to be late.

    >>> least_queries(99), least_queries(90)
    (662, 64)
    """
    total = 1
    while not confident(1, total, percent):
        total += 1
    return total
