from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from litert_conformance import Outcome, refusals
from litert_refusals import REFUSED, UNCOVERED

SUITE = Path(__file__).with_name("litert_conformance.py")


@pytest.fixture(scope="module")
def report() -> dict[str, dict[str, Any]]:
    """All outcomes, from a process in which warnings of ONNX's own tests are no errors."""
    done = subprocess.run([sys.executable, SUITE, "--json"], capture_output=True, check=True)
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def outcomes(report: dict[str, dict[str, Any]]) -> dict[str, Outcome]:
    return {name: Outcome(**fields) for name, fields in report["outcomes"].items()}


def test_no_node_test_is_wrong_or_crashes_or_fails_in_the_interpreter(
    outcomes: dict[str, Outcome],
) -> None:
    bad = {name: one for name, one in outcomes.items() if one.status not in {"passed", "refused"}}
    assert bad == {}


def test_what_is_refused_is_exactly_what_is_listed_and_for_the_reason_listed(
    outcomes: dict[str, Outcome],
) -> None:
    assert refusals(outcomes) == REFUSED


def test_nine_node_tests_in_ten_of_covered_operators_pass(outcomes: dict[str, Outcome]) -> None:
    assert len(outcomes) > 800
    passed = sum(one.status == "passed" for one in outcomes.values())
    assert passed >= 0.9 * len(outcomes)


def test_operators_without_a_lowering_are_exactly_those_listed(
    report: dict[str, dict[str, Any]],
) -> None:
    assert report["uncovered"] == UNCOVERED
