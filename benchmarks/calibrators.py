"""What each calibrator keeps of tensors with planted outliers, and what observing costs.

Run: ``python benchmarks/calibrators.py | tee benchmarks/calibrators.txt``. Exits 1 unless MSE and
entropy beat min-max in SQNR over all values on the gaussian tensor with two planted outliers, MSE
does so on every tensor with outliers, and entropy does so there for the inliers.

SQNR over all values counts the clipped outliers too: a few far values that are clipped hard can
cost more than all the rest gain. SQNR over the inliers alone says what the others gained. Both are
shown, for tensors where clipping pays and for tensors where it does not.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from hasten.compress.activations.histogram import Histogram
from hasten.compress.quantization.calibration import CALIBRATORS, sqnr_db

COUNT = 1_000_000
ROUNDS = 7
#: The tensor on which both have to win over all values.
PLANTED = "gaussian + 2 outliers"
HEADER = ("tensor", "calibrator", "range", "all values", "inliers only", "ms")
ROW = "{:24}{:12}{:>18}{:>18}{:>18}{:>7}"


def tensors() -> dict[str, tuple[np.ndarray, int]]:
    """Each tensor's values and how many of the leading ones are outliers, of 30 to 100 sigma."""
    random = np.random.default_rng(7)
    gaussian = random.standard_normal(COUNT)
    laplace = random.laplace(scale=0.5**0.5, size=COUNT)
    size = random.uniform(30, 100, 20) * np.where(np.arange(20) % 2, -1, 1)

    def planted(values: np.ndarray, outliers: np.ndarray) -> tuple[np.ndarray, int]:
        return np.concatenate([outliers, values]).astype(np.float32), outliers.size

    none = size[:0]
    return {
        "gaussian": planted(gaussian, none),
        "post-ReLU": planted(np.maximum(gaussian, 0), none),
        "Laplace": planted(laplace, none),
        PLANTED: planted(gaussian, size[:2]),
        "Laplace + 2 outliers": planted(laplace, size[:2]),
        "post-ReLU + 2 outliers": planted(np.maximum(gaussian, 0), np.abs(size[:2])),
        "gaussian + 20 outliers": planted(gaussian, size),
    }


def quality() -> dict[tuple[str, str], tuple[float, float]]:
    """Print the table; return each calibrator's gain over min-max in dB: all values, inliers."""
    gains = {}
    print(f"SQNR in dB at 8 bits, {COUNT:,} values of sigma 1; in brackets the gain over min-max")
    print(ROW.format(*HEADER))
    for name, (values, outliers) in tensors().items():
        histogram = Histogram()
        histogram.add(values)
        baseline = (0.0, 0.0)
        for calibrator, calibrate in CALIBRATORS.items():
            start = time.perf_counter()
            found = calibrate(histogram)
            spent_ms = 1000 * (time.perf_counter() - start)
            reached = sqnr_db(values, found), sqnr_db(values[outliers:], found)
            baseline = reached if calibrator == "minmax" else baseline
            gain = reached[0] - baseline[0], reached[1] - baseline[1]
            gains[name, calibrator] = gain
            clip = f"[{found.low:.2f}, {found.high:.2f}]"
            cells = [f"{db:.2f} ({more:+.2f})" for db, more in zip(reached, gain, strict=True)]
            print(ROW.format(name, calibrator, clip, *cells, f"{spent_ms:.1f}"))
    return gains


def throughput() -> None:
    """Print values per second of Histogram.add beside np.histogram, in interleaved rounds."""
    values = np.random.default_rng(0).standard_normal(8 * COUNT, np.float32)
    ours, numpys = Histogram(), []
    rates: dict[str, list[float]] = {"Histogram.add": [], "np.histogram": []}
    runs: dict[str, Callable[[], object]] = {
        "Histogram.add": lambda: ours.add(values),
        "np.histogram": lambda: numpys.append(np.histogram(values, bins=4096)[0]),
    }
    for _ in range(ROUNDS):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            rates[name].append(values.size / (time.perf_counter() - start) / 1e6)
    medians = {name: float(np.median(rate)) for name, rate in rates.items()}
    ratios = np.divide(rates["Histogram.add"], rates["np.histogram"])
    print(f"\nmillion float32 values/s on one thread, 4096 bins, median of {ROUNDS} rounds")
    for name, median in medians.items():
        print(f"{name:16}{median:8.0f}")
    print(
        f"{'ratio':16}{np.median(ratios):8.1f}  (rounds: {ratios.min():.1f} to {ratios.max():.1f})"
    )


def verdict(gains: dict[tuple[str, str], tuple[float, float]]) -> bool:
    """Print who beat min-max where; whether all that is claimed holds."""
    print()
    holds = True
    for name in (name for name in tensors() if "outliers" in name):
        (mse_all, mse_inliers), (all_values, inliers) = gains[name, "mse"], gains[name, "entropy"]
        holds &= mse_all > 0 and inliers > 0 and (all_values > 0 or name != PLANTED)
        print(
            f"{name:24}mse {mse_all:+.2f} dB over all values, {mse_inliers:+.2f} over inliers;"
            f" entropy {all_values:+.2f} and {inliers:+.2f}"
        )
    won = ", ".join(f"{name} {gains[PLANTED, name][0]:+.2f} dB" for name in ("entropy", "mse"))
    answer = "yes" if holds else "NO"
    print(f"entropy and mse beat min-max over all values of '{PLANTED}': {answer} ({won})")
    return holds


def main() -> int:
    """Run all; 0 where the claims hold."""
    warm = Histogram()
    warm.add(np.linspace(-1, 1, COUNT, dtype=np.float32))
    for calibrate in CALIBRATORS.values():
        calibrate(warm)
    gains = quality()
    throughput()
    return 0 if verdict(gains) else 1


if __name__ == "__main__":
    sys.exit(main())
