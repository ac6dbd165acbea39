"""How close a model's answers are to the reference's: each output by what it means.

In come the answers of two models for the same samples and what each output means; out goes one
``OutputScore`` an output: what is kept by its kind, and whether it fell below the floor that no
kind may. The worst output decides.
"""

from hasten.data.fidelity.floor import FLOOR_DB, noise_limit
from hasten.data.fidelity.score import OutputScore, least_sqnr_db, score_outputs
from hasten.data.fidelity.variation import SQNR_LIMIT_DB, decibels, variation

__all__ = [
    "FLOOR_DB",
    "SQNR_LIMIT_DB",
    "OutputScore",
    "decibels",
    "least_sqnr_db",
    "noise_limit",
    "score_outputs",
    "variation",
]
