"""The floor beneath every kind of output: what varies in the reference has to vary alike.

Whatever else agrees, an output that became constant, that is mostly noise, or of which a channel
is lost, is ruined.
"""

from __future__ import annotations

import numpy as np

from hasten.data.fidelity.variation import Variation

__all__ = ["CONSTANT", "FLOOR_DB", "broken_floor", "noise_limit"]

#: What is said of an output that no longer varies over samples.
CONSTANT = "it became constant"
#: The centred output has to be this much louder than its noise: noise is a sixteenth.
FLOOR_DB = 12.0
#: Where more of the metric may be lost, this many times as much noise may be there.
_NOISE_PER_DROP = 3.0
#: What does not vary in the reference may part by so much of its power: 30 dB.
_STILL_LIMIT = 1e-3
#: The other output is constant when it varies by less than this share of what it should.
_CONSTANT = 1e-4
#: A channel counts where it varies this much, as a share of the mean over channels ...
_MATERIAL = 0.1
#: ... and is lost when less than this share of its variation is kept.
_CHANNEL_KEPT = 0.5
#: Channels are looked at where each has so many values.
_LEAST_VALUES = 8


def noise_limit(max_drop: float) -> float:
    """How much noise is allowed, as a share of the signal.

    >>> round(noise_limit(0.01), 4), round(noise_limit(0.1), 4)
    (0.0631, 0.3)
    """
    return max(float(10 ** (-FLOOR_DB / 10)), _NOISE_PER_DROP * max_drop)


def broken_floor(found: Variation, limit: float, *, by_channel: bool = True) -> str:
    """Say what fell below the floor; empty where nothing did."""
    if found.is_still:
        if found.noise_share <= _STILL_LIMIT:
            return ""
        return (
            f"it hardly varies in the reference; it parts by {found.noise_share:.2g} of its power"
        )
    if found.centred and found.moved.sum() <= _CONSTANT * found.signal.sum():
        return CONSTANT
    if found.noise_share > limit:
        share = f"{found.noise_share:.2g} of what varies over samples"
        return f"its noise is {share} ({found.sqnr_db:.1f} dB)"
    return _lost_channel(found) if by_channel else ""


def _lost_channel(found: Variation) -> str:
    """Say which channel is lost though it varies as others do."""
    if len(found.signal) < 2 or found.count < _LEAST_VALUES:  # noqa: PLR2004 - one is the whole
        return ""
    material = found.signal >= _MATERIAL * found.signal.mean()
    lost = np.flatnonzero(material & (found.kept < _CHANNEL_KEPT))
    if not lost.size:
        return ""
    worst = int(lost[np.argmin(found.kept[lost])])
    if found.centred and found.moved[worst] <= _CONSTANT * found.signal[worst]:
        return f"channel {worst} became constant"
    return f"channel {worst} keeps {max(0.0, found.kept[worst]):.0%} of what varies over samples"
