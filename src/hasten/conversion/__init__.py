"""Conversion: a model in another format, written once its numbers were compared."""

from hasten.conversion.agreement import Agreement, Difference, compare_runs
from hasten.conversion.conversion import (
    Conversion,
    Kind,
    Target,
    UsedOperator,
    convert,
    require_tolerance,
)
from hasten.conversion.drift import first_noisy

__all__ = [
    "Agreement",
    "Conversion",
    "Difference",
    "Kind",
    "Target",
    "UsedOperator",
    "compare_runs",
    "first_noisy",
    "require_tolerance",
    "convert",
]
