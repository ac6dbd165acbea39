"""The second suite over ONNX's node tests: what is lowered also comes back."""

from __future__ import annotations

import warnings
from functools import cache

from litert_conformance import Outcome, cases
from tflite_import_conformance import there_and_back

#: Operators that the lowering writes and that do not come back, with the reason.
LEFT_OUT = {"RIGHT_SHIFT": "ONNX shifts unsigned integers alone"}


@cache
def outcomes() -> dict[str, Outcome]:
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, about the cases' own infinities
        for name, case in cases().items():
            outcome = there_and_back(case)
            if outcome is not None:
                found[name] = outcome
    return found


def test_every_case_that_is_lowered_comes_back_or_has_an_operator_that_is_left_out() -> None:
    lost = {
        name: f"{one.status}: {one.reason}" for name, one in outcomes().items() if not _fine(one)
    }
    assert lost == {}


def _fine(outcome: Outcome) -> bool:
    left_out = any(f"{kind} (operator" in outcome.reason for kind in LEFT_OUT)
    return outcome.status == "passed" or (outcome.status == "refused" and left_out)


def test_no_case_comes_back_with_wrong_numbers() -> None:
    wrong = {name: one.reason for name, one in outcomes().items() if one.status == "wrong"}
    assert wrong == {}


def test_most_cases_were_lowered_at_all() -> None:
    assert len(outcomes()) > 100
