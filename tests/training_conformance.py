"""ONNX's own node tests, run through the modules that training makes of graphs.

python tests/training_conformance.py            what is not passed, and how many are
python tests/training_conformance.py softmax    the same of tests with this in their name
python tests/training_conformance.py --json     every outcome
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from onnx.backend.test.case.node import collect_testcases

from hasten.errors import HastenError, RefusedError, one_line
from hasten.train import GraphModule
from hasten.train.operators import OPERATORS

__all__ = ["Outcome", "outcomes"]

#: Of a node with these inputs, exporters write constants: torch makes numbers of them.
_DTYPES = {np.dtype(kind) for kind in ("float32", "int8", "uint8", "int32", "int64", "bool")}


@dataclass(frozen=True)
class Outcome:
    """``passed``, ``refused`` when the module is made, ``failed`` in torch, or ``wrong``."""

    status: str
    reason: str = ""


def outcomes(patterns: list[str]) -> Iterator[tuple[str, Outcome]]:
    """Run every node test whose operators are all in the table."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the casts that make the tests' own data
        found = collect_testcases(None)
    for case in found:
        if all(part in case.name for part in patterns) and _in_scope(case):
            yield case.name, _outcome(case)


def _in_scope(case: Any) -> bool:
    if case.model is None or case.data_sets is None:
        return False
    if not {node.op_type for node in case.model.graph.node} <= {*OPERATORS, "Constant"}:
        return False
    arrays = [array for inputs, outputs in case.data_sets for array in (*inputs, *outputs)]
    return all(isinstance(array, np.ndarray) and array.dtype in _DTYPES for array in arrays)


def _outcome(case: Any) -> Outcome:
    try:
        module = GraphModule(case.model)
        for inputs, outputs in case.data_sets:
            feed = {
                value.name: torch.tensor(np.asarray(array))
                for value, array in zip(case.model.graph.input, inputs, strict=True)
            }
            with torch.no_grad():
                found = module(feed)
            for want, (name, have) in zip(outputs, found.items(), strict=True):
                reason = _difference(name, have.numpy(), np.asarray(want), case)
                if reason:
                    return Outcome("wrong", reason)
    except RefusedError as refused:
        return Outcome("refused", str(refused))
    except HastenError as error:
        return Outcome("failed", one_line(error))
    return Outcome("passed")


def _difference(name: str, have: np.ndarray, want: np.ndarray, case: Any) -> str:
    if have.dtype != want.dtype:
        return f"{name} is {have.dtype} instead of {want.dtype}"
    try:
        np.testing.assert_allclose(have, want, rtol=max(case.rtol, 1e-4), atol=max(case.atol, 1e-5))
    except AssertionError as error:
        return f"{name}: {' '.join(str(error).split())[:300]}"
    return ""


def _main(arguments: list[str]) -> None:
    patterns = [one for one in arguments if not one.startswith("--")]
    found = dict(outcomes(patterns))
    if "--json" in arguments:
        sys.stdout.write(json.dumps({name: asdict(one) for name, one in found.items()}))
        return
    for name, outcome in found.items():
        if outcome.status != "passed":
            sys.stdout.write(f"{outcome.status} {name}: {outcome.reason}\n")
    sys.stdout.write(f"{dict(Counter(one.status for one in found.values()))}\n")


if __name__ == "__main__":
    _main(sys.argv[1:])
