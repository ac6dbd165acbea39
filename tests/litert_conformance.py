"""ONNX's own node tests, run through the lowering to LiteRT.

A node test feeds everything as inputs, shapes and weights too, where exporters write constants:
such inputs become constants here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from ai_edge_litert.interpreter import Interpreter
from onnx import numpy_helper
from onnx.backend.test.case.node import collect_testcases

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering import lower_graph
from hasten.runtimes.litert.lowering.operators import OPERATORS

__all__ = ["Case", "Outcome", "cases", "run_all", "run_case"]

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


@cache
def cases() -> dict[str, Case]:
    """Every node test of operators in the table, on static shapes of float32, integers and bool."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the casts that make the tests' own data
        collected = collect_testcases(None)
    for case in collected:
        if case.model is None or case.data_sets is None:
            continue
        made = Case(case.name, case.model, case.data_sets, case.rtol, case.atol)
        if made.operators <= set(OPERATORS) | {"Constant", "Shape", "Size"} and _in_scope(made):
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


def family(name: str) -> str:
    """The operator that a test's name begins with, for a summary.

    >>> family("test_softmax_axis_0_expanded")
    'softmax'
    """
    return re.sub(r"^test_", "", name).split("_", maxsplit=1)[0]


def run_all(names: Sequence[str]) -> dict[str, Outcome]:
    """Run cases in two processes of their own: a crash of the interpreter is the outcome of one."""
    with ThreadPoolExecutor(2) as pool:
        halves = list(pool.map(_run_apart, (names[::2], names[1::2])))
    found = halves[0] | halves[1]
    return {name: found[name] for name in names}


def _run_apart(names: Sequence[str]) -> dict[str, Outcome]:
    left, found = list(names), dict[str, Outcome]()
    while left:
        done = subprocess.run(
            [sys.executable, __file__],
            input="\n".join(left),
            capture_output=True,
            text=True,
            check=False,
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        found.update((line.pop("name"), Outcome(**line)) for line in lines)
        left = left[len(lines) :]
        if left:
            last = (done.stderr.strip().splitlines() or [""])[-1]
            found[left.pop(0)] = Outcome("crashed", f"exit status {done.returncode}: {last}")
    return found


def _main(names: Sequence[str]) -> None:
    known = cases()
    for name in names:
        outcome = asdict(run_case(known[name]))
        sys.stdout.write(json.dumps({"name": name, **outcome}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    _main(sys.stdin.read().split())
