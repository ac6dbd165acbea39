"""The verbs as functions: what the command line calls, and what Python users call."""

from hasten.api.compression import Way, distill, finetune, prune, quantize
from hasten.api.conversion import convert
from hasten.api.optimization import optimize
from hasten.api.sources import Data, load

__all__ = [
    "Data",
    "Way",
    "convert",
    "distill",
    "finetune",
    "load",
    "optimize",
    "prune",
    "quantize",
]
