"""The second suite over ONNX's node tests: what is lowered also comes back."""

from __future__ import annotations

import warnings
from functools import cache

from litert_conformance import Outcome, cases
from tflite_import_conformance import there_and_back

#: Cases that are lowered and do not come back, with a word of the reason. Exact: a case that
#: begins to pass has to leave the list.
LEFT_OUT: dict[str, str] = {}


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


def test_every_case_that_is_lowered_comes_back_or_is_listed() -> None:
    left = {name: outcome for name, outcome in outcomes().items() if outcome.status != "passed"}
    assert {name: left[name].reason for name in left.keys() - LEFT_OUT.keys()} == {}
    assert LEFT_OUT.keys() - left.keys() == set()
    for name, reason in LEFT_OUT.items():
        assert reason in left[name].reason


def test_no_case_comes_back_with_wrong_numbers() -> None:
    wrong = {name: one.reason for name, one in outcomes().items() if one.status == "wrong"}
    assert wrong == {}


def test_most_cases_were_lowered_at_all() -> None:
    assert len(outcomes()) > 100
