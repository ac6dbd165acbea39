"""A runtime of known cost: it measures the measurer, and plays every way a runtime can fail.

The graph's metadata says how it behaves, one property each (all optional):

``hasten.null.cost_ns``   busy time of one run on one thread; threads divide it
``hasten.null.jitter``    relative half-width of a uniform variation of that time
``hasten.null.fail``      ``compile``, ``run``, ``crash``, ``hang_compile``, ``hang_run`` or ``nan``
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hasten.errors import RuntimeFailureError
from hasten.graph import Signature, numpy_dtype
from hasten.runtimes.runtime import Arrays, Execution, Format, Hint, Lowered, Probe
from hasten.runtimes.vendor import write_once

if TYPE_CHECKING:
    from pathlib import Path

    from hasten.graph import Model

__all__ = ["NullRuntime", "NullSession"]

_PREFIX = "hasten.null."


class NullRuntime:
    """Spins for as long as the graph's metadata says, and answers zeros."""

    name = "null"
    reads: tuple[Format, ...] = ("null",)
    open_s = 0.0
    any_batch = True

    def probe(self) -> Probe:
        """Always there; raced only when asked for by name."""
        return Probe(available=True, version="1")

    def supports(self, model: Model) -> list[str]:
        """Take every ONNX graph."""
        return [] if model.format == "onnx" else ["reads .onnx, not .tflite"]

    def lower(self, model: Model, folder: Path, hint: Hint = "default") -> Lowered:
        """Write the behaviour alone."""
        del hint
        path = folder / f"{model.digest[:16]}.null"
        behaviour = {
            prop.key.removeprefix(_PREFIX): prop.value
            for prop in model.graph.metadata_props
            if prop.key.startswith(_PREFIX)
        }
        write_once(path, json.dumps(behaviour).encode())
        return Lowered(str(path), "null", model.signature)

    def open(self, lowered: Lowered, execution: Execution) -> NullSession:
        """Read the behaviour; fail or hang here if it says so."""
        with open(lowered.path, encoding="utf-8") as file:
            behaviour = msgspec.json.decode(file.read(), type=dict[str, str])
        fail = behaviour.get("fail", "")
        if fail == "compile":
            raise RuntimeFailureError("null could not compile: its metadata says so")
        if fail == "hang_compile":
            time.sleep(3600)
        cost_ns = int(behaviour.get("cost_ns", "0")) // execution.threads
        return NullSession(lowered.signature, cost_ns, float(behaviour.get("jitter", "0")), fail)


class NullSession:
    """Outputs are zeros, with free dimensions taken from the first input's batch."""

    def __init__(self, signature: Signature, cost_ns: int, jitter: float, fail: str) -> None:
        self._signature = signature
        self._cost_ns = cost_ns
        self._jitter = jitter
        self._fail = fail
        self._random = random.Random(0)  # noqa: S311 - a variation of times, not a secret

    def run(self, feed: Arrays) -> Arrays:
        """Spin, then answer."""
        until = time.perf_counter_ns() + self._spin_ns()
        if self._fail == "run":
            raise RuntimeFailureError("null could not run: its metadata says so")
        if self._fail == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._fail == "hang_run":
            time.sleep(3600)
        outputs = self._outputs(next((x.shape[0] for x in feed.values() if x.ndim), 1))
        while time.perf_counter_ns() < until:
            pass
        return outputs

    def _spin_ns(self) -> int:
        return int(self._cost_ns * (1 + self._random.uniform(-self._jitter, self._jitter)))

    def _outputs(self, batch: int) -> Arrays:
        value = np.nan if self._fail == "nan" else 0
        return {
            spec.name: np.full(
                [batch if dim is None else dim for dim in spec.shape],
                value,
                numpy_dtype(spec.dtype),
            )
            for spec in self._signature.outputs
        }

    def close(self) -> None:
        """Hold nothing, free nothing."""
