"""Conversion: a model in another format, written once its numbers were compared."""

from hasten.conversion.agreement import Agreement, Difference, compare_outputs
from hasten.conversion.conversion import Conversion, Kind, Target, UsedOperator, convert

__all__ = [
    "Agreement",
    "Conversion",
    "Difference",
    "Kind",
    "Target",
    "UsedOperator",
    "compare_outputs",
    "convert",
]
