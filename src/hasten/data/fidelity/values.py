"""Values: how much of what the reference varies over samples is kept, 1 - noise / signal.

It is the coefficient of determination, with the reference as the truth: 0.99 is 20 dB.
"""

from __future__ import annotations

import numpy as np

from hasten.data.fidelity.compared import Case, Comparison, Floats
from hasten.data.fidelity.variation import Variation, variation

__all__ = ["FEW_COLUMNS", "compare_values", "compare_waveforms", "kept_values"]

#: So many columns are quantities of their own, each in its unit; more are of one kind.
FEW_COLUMNS = 16
_STILL = 1e-10
#: Samples quieter than this, as a share of the mean energy, are silence.
_SILENT = 1e-4


def compare_values(case: Case) -> Comparison:
    """Return what is kept of the worst column where there are few, else of all together."""
    columns = case.reference.values
    if columns is None or columns.ndim != 2 or columns.shape[1] > FEW_COLUMNS:  # noqa: PLR2004
        return kept_values(case)
    found = variation(case.output, case.reference, -1)
    whole = kept_values(case)
    varies = found.signal > _STILL * found.power
    if not varies.any():
        return whole
    worst = float(np.clip(found.kept[varies].min(), 0.0, 1.0))
    return Comparison(min(whole.figure, worst), whole.samples)


def kept_values(case: Case) -> Comparison:
    """Return what is kept of all values together."""
    found = case.variation
    if found is None:
        found = variation(case.output, case.reference)
    figure = float(np.clip(1 - found.noise_share, 0.0, 1.0))
    return Comparison(figure, _per_sample(found))


def compare_waveforms(case: Case) -> Comparison:
    """Return the mean over samples of what is kept of each one's own signal."""
    found = case.variation
    if found is None:
        found = variation(case.output, case.reference)
    energy = found.sample_signal
    loud = energy > _SILENT * energy.mean()
    if not loud.any():
        return kept_values(case)
    kept = np.ones(len(energy))
    kept[loud] = np.clip(1 - found.sample_noise[loud] / energy[loud], 0.0, 1.0)
    return Comparison(float(kept[loud].mean()), kept)


def _per_sample(found: Variation) -> Floats:
    """Return what is kept of each sample, measured by the mean signal."""
    whole = (found.power if found.is_still else found.signal).sum() / max(
        1, len(found.sample_noise)
    )
    if whole <= 0:
        return np.where(found.sample_noise > 0, 0.0, 1.0)
    return np.asarray(np.clip(1 - found.sample_noise / whole, 0.0, 1.0))
