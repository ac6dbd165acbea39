"""ONNX's own node tests, run through the lowering to LiteRT.

A node test feeds everything as inputs, shapes and weights too, where exporters write constants:
such inputs become constants here, and free dimensions become those of the test's data.

    python tests/litert_conformance.py            what is not passed, and how many are
    python tests/litert_conformance.py softmax    the same of tests with this in their name
    python tests/litert_conformance.py --json     every outcome
    python tests/litert_conformance.py --write    writes tests/litert_refusals.py anew
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess as Process
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from hasten.errors import RefusedError
from hasten.graph.operators import is_default_domain
from hasten.runtimes.litert.lowering import lower_graph
from hasten.runtimes.litert.lowering.operators import OPERATORS
from hasten.runtimes.litert.lowering.reasons import why_not
from written_defaults import SPELLINGS

__all__ = ["Case", "Outcome", "cases", "reason_of", "refusals", "run_all", "run_case", "uncovered"]

#: Inputs, by position, that are parameters: constant in any model that was exported.
PARAMETERS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2, 3, 4),
    "CenterCropPad": (1,),
    "Clip": (1, 2),
    "ConstantOfShape": (0,),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "CumSum": (1,),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "GRU": (1, 2, 3),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LSTM": (1, 2, 3, 7),
    "LayerNormalization": (1, 2),
    "OneHot": (1, 2),
    "PRelu": (1,),
    "Pad": (1, 2, 3),
    "QuantizeLinear": (1, 2),
    "RNN": (1, 2, 3),
    "RMSNormalization": (1,),
    "Range": (0, 1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}

_DTYPES = {
    np.dtype(kind) for kind in ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
}


@dataclass(frozen=True)
class Outcome:
    """``passed``, ``refused`` by the lowering, ``failed`` in the interpreter, or ``wrong``."""

    status: str
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Case:
    """One node test."""

    name: str
    model: onnx.ModelProto
    data_sets: Sequence[Any]
    rtol: float
    atol: float

    @property
    def operators(self) -> set[str]:
        return {node.op_type for node in self.model.graph.node}


#: Operators with a lowering, and those that are computed from shapes.
COVERED = set(OPERATORS) | {"Constant", "Shape", "Size"}


@cache
def _collected() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the casts that make the tests' own data
        found = collect_testcases(None)
    return [case for case in found if case.model is not None and case.data_sets is not None]


@cache
def cases() -> dict[str, Case]:
    """Every node test whose operators all have a lowering, of float32, integers and bool."""
    found = {}
    for case in _collected():
        made = Case(case.name, case.model, case.data_sets, case.rtol, case.atol)
        if made.operators <= COVERED and _in_scope(made):
            found[case.name] = made
    return found


def _in_scope(case: Case) -> bool:
    values = [*case.model.graph.input, *case.model.graph.output]
    if not all(value.type.HasField("tensor_type") for value in values):
        return False
    arrays = [array for inputs, outputs in case.data_sets for array in (*inputs, *outputs)]
    return all(isinstance(array, np.ndarray) and array.dtype in _DTYPES for array in arrays)


def run_case(case: Case) -> Outcome:
    """Lower, run and compare each data set of a case."""
    for inputs, outputs in case.data_sets:
        outcome = _run(case, list(inputs), list(outputs))
        if outcome.status != "passed":
            return outcome
    return Outcome("passed")


def _run(case: Case, inputs: list[np.ndarray], expected: list[np.ndarray]) -> Outcome:
    feed = dict(zip([value.name for value in case.model.graph.input], inputs, strict=True))
    frozen = _frozen(case.model, feed)
    try:
        lowering = lower_graph(frozen)
    except RefusedError as refused:
        return Outcome("refused", str(refused))
    for spelling, spelt in SPELLINGS.items():
        if lower_graph(spelt(frozen)).content != lowering.content:
            return Outcome("wrong", f"another file with defaults {spelling}")
    try:
        found = _interpret(lowering.content, feed)
    except (RuntimeError, ValueError) as error:
        return Outcome("failed", " ".join(str(error).split()))
    for want, (name, have) in zip(expected, found.items(), strict=True):
        try:
            np.testing.assert_allclose(
                have, want, rtol=max(case.rtol, 1e-4), atol=max(case.atol, 1e-5)
            )
        except AssertionError as error:
            return Outcome("wrong", f"{name}: {' '.join(str(error).split())[:300]}")
        if have.dtype != want.dtype:
            return Outcome("wrong", f"{name} is {have.dtype} instead of {want.dtype}")
    return Outcome("passed")


def _frozen(model: onnx.ModelProto, feed: dict[str, np.ndarray]) -> onnx.ModelProto:
    """The model with its parameters as constants, and the shapes of this data set."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    constants = set(_parameters(graph))
    inputs = [value for value in graph.input if value.name not in constants]
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(feed[name]), name) for name in constants if name in feed
    )
    del graph.input[:]
    for value in inputs:
        del value.type.tensor_type.shape.dim[:]
        for size in np.shape(feed[value.name]):
            value.type.tensor_type.shape.dim.add().dim_value = size
        value.type.tensor_type.shape.SetInParent()
    graph.input.extend(inputs)
    return made


def _parameters(graph: onnx.GraphProto) -> Iterator[str]:
    inputs = {value.name for value in graph.input}
    for node in graph.node:
        for at in PARAMETERS.get(node.op_type, ()):
            if at < len(node.input) and node.input[at] in inputs:
                yield node.input[at]


def _interpret(content: bytes, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.asarray(feed[detail["name"]], order="C"))
    interpreter.invoke()
    return {
        detail["name"]: interpreter.get_tensor(detail["index"])
        for detail in interpreter.get_output_details()
    }


def reason_of(message: str) -> str:
    """Why a case was refused, without the names of its nodes.

    >>> reason_of("litert has no equal of: Div (node a): no; Div (node b): no; Mod (node c): yes")
    'Div: no; Mod: yes'
    """
    problems = message.removeprefix("litert has no equal of: ")
    plain = re.sub(r" \(node [^)]*\)", "", problems)
    return "; ".join(dict.fromkeys(plain.split("; ")))


def run_all(names: Sequence[str]) -> dict[str, Outcome]:
    """Run cases in two processes of their own: a crash of the interpreter is the outcome of one.

    They are forked, since collecting the cases takes longer than to run them.
    """
    known = cases()
    found: dict[str, Outcome] = {}
    waiting: dict[Connection, tuple[Process, list[str]]] = {}

    def start(left: list[str]) -> None:
        ours, theirs = get_context("fork").Pipe(duplex=False)
        process = get_context("fork").Process(target=_work, args=(known, left, theirs))
        process.start()
        theirs.close()
        waiting[ours] = process, left

    for half in (names[::2], names[1::2]):
        start(list(half))
    while waiting:
        for ready in wait(list(waiting)):
            assert isinstance(ready, Connection)
            process, left = waiting[ready]
            try:
                found[left[0]] = ready.recv()
                left.pop(0)
            except (EOFError, IndexError):
                del waiting[ready]
                process.join()
                if left:
                    found[left.pop(0)] = Outcome("crashed", f"exit status {process.exitcode}")
                    start(left)
    return {name: found[name] for name in names}


def _work(known: Mapping[str, Case], names: Sequence[str], results: Connection) -> None:
    for name in names:
        results.send(run_case(known[name]))


def refusals(outcomes: Mapping[str, Outcome]) -> dict[str, list[str]]:
    """Names of refused cases by reason, both in order."""
    found: dict[str, list[str]] = {}
    for name, outcome in sorted(outcomes.items()):
        if outcome.status == "refused":
            found.setdefault(reason_of(outcome.reason), []).append(name)
    return dict(sorted(found.items()))


def uncovered() -> dict[str, list[str]]:
    """Operators of node tests that have no lowering, by reason."""
    found: dict[str, set[str]] = {}
    for case in _collected():
        for node in case.model.graph.node:
            if is_default_domain(node.domain) and node.op_type not in COVERED:
                found.setdefault(why_not(node.op_type), set()).add(node.op_type)
    return {reason: sorted(names) for reason, names in sorted(found.items())}


def _write(outcomes: Mapping[str, Outcome]) -> None:
    text = (
        '"""Node tests that are refused, and operators without a lowering, by reason.\n\n'
        "Written by ``python tests/litert_conformance.py --write``.\n"
        '"""\n\nfrom __future__ import annotations\n\n'
        '__all__ = ["REFUSED", "UNCOVERED"]\n\n'
        f"REFUSED: dict[str, list[str]] = {_literal(refusals(outcomes))}\n\n"
        f"UNCOVERED: dict[str, list[str]] = {_literal(uncovered())}\n"
    )
    Path(__file__).with_name("litert_refusals.py").write_text(text, encoding="utf-8")


def _literal(lists: Mapping[str, Sequence[str]]) -> str:
    lines = []
    for reason, names in lists.items():
        lines.append(f"    {json.dumps(reason)}: [")
        lines += [f"        {json.dumps(name)}," for name in names]
        lines.append("    ],")
    return "\n".join(["{", *lines, "}"])


def _main(arguments: Sequence[str]) -> None:
    patterns = [one for one in arguments if not one.startswith("--")]
    outcomes = run_all([name for name in cases() if all(part in name for part in patterns)])
    if "--json" in arguments:
        plain = {name: asdict(outcome) for name, outcome in outcomes.items()}
        sys.stdout.write(json.dumps({"outcomes": plain, "uncovered": uncovered()}))
        return
    for name, outcome in outcomes.items():
        if outcome.status != "passed":
            sys.stdout.write(f"{outcome.status} {name}: {reason_of(outcome.reason)}\n")
    sys.stdout.write(f"{dict(Counter(one.status for one in outcomes.values()))}\n")
    if "--write" in arguments:
        _write(outcomes)


if __name__ == "__main__":
    _main(sys.argv[1:])
