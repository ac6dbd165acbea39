"""Which way a metric is better and how it is written, so that every report reads alike.

Every ``Score.value`` is better the higher it is. Of a metric that counts errors it is therefore the
negative: a drop is then how much the error grew, in the metric's own unit, and people are shown the
error as it is.
"""

from __future__ import annotations

import re

__all__ = ["counts_errors", "is_share", "loss"]

_ERRORS = frozenset({"mae", "rmse", "cer", "wer"})
_SHARES = frozenset({"fidelity", "agreement", "f1", "auc", "map", "map50", "iou", "cer", "wer"})
_SHARES_OF = re.compile(r"top\d+|recall@\d+")


def counts_errors(metric: str) -> bool:
    """Whether the metric is an error: its scores are the negative of what is shown."""
    return metric in _ERRORS


def is_share(metric: str) -> bool:
    """Whether it is a share, shown in percent with changes in points."""
    return metric in _SHARES or _SHARES_OF.fullmatch(metric) is not None


def loss(metric: str, drop: float) -> str:
    """Say what became of the metric, from the drop of its score.

    >>> loss("top1", 0.02), loss("mae", 0.02), loss("mae", -0.02)
    ('loses 0.0200 of top1', 'adds 0.0200 to mae', 'takes 0.0200 off mae')
    """
    if counts_errors(metric):
        return (f"adds {drop:.4f} to {metric}") if drop > 0 else f"takes {-drop:.4f} off {metric}"
    return f"{'loses' if drop > 0 else 'gains'} {abs(drop):.4f} of {metric}"
