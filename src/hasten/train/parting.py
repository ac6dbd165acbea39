"""Where a module in training and the graph written of it part, counted in quantization steps.

Two roundings of one number may differ where it lies halfway between two levels, and such ties
cascade: what one tie moves by a step makes others. So the outputs alone do not tell ties from
faults. Here each node of the module is fed with what the deployed graph computed before it, and
what it makes is held against the deployed graph's own: a level that no tie explains is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import torch

from hasten.graph import constants_of
from hasten.train.operators.fake_quantize import ACTIVATION, DOMAIN
from hasten.train.rounding import TIE, Rounding

if TYPE_CHECKING:
    import onnx

    from hasten.train.module import GraphModule, Walked

__all__ = ["OutputParting", "Parting", "TensorParting", "inner_tensors", "part"]

#: Levels between which a tensor of floats is counted, which no quantizer has given a step.
_LEVELS = 255


class OutputParting(msgspec.Struct, frozen=True):
    """One output: of ``values``, ``parted`` differ by more than half a step, at most ``steps``."""

    name: str
    values: int
    parted: int
    steps: float

    @property
    def share(self) -> float:
        """The share of values that differ by more than half a step."""
        return self.parted / max(self.values, 1)


class TensorParting(msgspec.Struct, frozen=True):
    """A tensor of which ``parted`` values are at another level than ties explain.

    ``operator`` computes it from the deployed graph's own tensors; ``steps`` is how far the worst
    is from the level it should have, beyond half a step.
    """

    operator: str
    name: str
    values: int
    parted: int
    steps: float

    def __str__(self) -> str:
        return (
            f"{self.operator}: {self.parted} of {self.values} values of {self.name} part"
            f" by up to {self.steps:.2g} steps more than ties explain"
        )


class Parting(msgspec.Struct, frozen=True):
    """How a module and its deployed graph part on a runtime.

    ``outputs`` tell of the module by itself: a tie inside may have become several steps there.
    ``tensors`` are those that no ties explain, in the order of the graph. ``compared`` counts what
    was held against the runtime's own, made of the runtime's own: tensors inside and outputs; with
    0 the runtime could not give those inside.
    """

    runtime: str
    outputs: tuple[OutputParting, ...]
    tensors: tuple[TensorParting, ...] = ()
    compared: int = 0

    @property
    def agrees(self) -> bool:
        """Whether ties explain all differences; with nothing compared inside there is none."""
        return not self.tensors and (self.compared > 0 or not any(o.parted for o in self.outputs))

    @property
    def first(self) -> TensorParting | None:
        """The first tensor that parts beyond ties, with the operator that computes it."""
        return self.tensors[0] if self.tensors else None

    def __str__(self) -> str:
        outputs = ", ".join(
            f"{one.name}: {one.parted} of {one.values} values off by more than half a step,"
            f" at most {one.steps:.1f}"
            for one in self.outputs
        )
        inside = f"{self.compared} tensors agree to ties" if not self.tensors else str(self.first)
        return f"{self.runtime}: {outputs}; {inside}"


def inner_tensors(graph: onnx.ModelProto) -> list[str]:
    """Return the integers that a quantized graph computes: what each of its points rounds to."""
    known = constants_of(graph.graph)
    return [
        node.output[0]
        for node in graph.graph.node
        if node.op_type == "QuantizeLinear" and node.input[0] not in known
    ]


def part(
    module: GraphModule,
    graph: onnx.ModelProto,
    answers: Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]],
    runtime: str,
    inner: Sequence[str] = (),
) -> Parting:
    """Hold a module in training against what its deployed graph computed.

    ``answers`` are feeds with the outputs, and the tensors ``inner``, that a runtime made of them.
    """
    counting = _Counting(graph, set(inner), runtime)
    was_training = module.training
    module.eval()
    with torch.no_grad():
        for feed, answer in answers:
            inputs = {name: torch.tensor(value) for name, value in feed.items()}
            counting.compare_outputs(module(inputs), answer)
            if inner:
                given = {name: counting.real(name, answer[name]) for name in inner}
                for walked in module.walk(inputs, given):
                    counting.compare(walked, answer)
    module.train(was_training)
    return Parting(
        runtime,
        tuple(counting.outputs.values()),
        tuple(one for one in counting.tensors.values() if one.parted),
        len(counting.tensors),
    )


@dataclass(eq=False)
class _Counting:
    """Counts what parts; ``steps`` holds scale and zero point of each tensor of integers."""

    graph: onnx.ModelProto
    inner: set[str]
    runtime: str
    outputs: dict[str, OutputParting] = field(default_factory=dict)
    tensors: dict[str, TensorParting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from onnx import numpy_helper

        known = constants_of(self.graph.graph)
        self._levels: dict[str, tuple[float, int]] = {}
        self._makers = {name: node for node in self.graph.graph.node for name in node.output}
        for node in self.graph.graph.node:
            if node.op_type == "QuantizeLinear" and node.input[1] in known:
                scale, zero_point = (numpy_helper.to_array(known[one]) for one in node.input[1:3])
                self._levels[node.output[0]] = float(scale), int(zero_point)
        scales = {name: scale for name, (scale, _) in self._levels.items()}
        self._rounding = Rounding(self.graph, self.runtime, scales)
        # What floats make of the last integers is rounded by nobody, and may be wrong as well.
        self._compared = self.inner | {output.name for output in self.graph.graph.output}

    def real(self, name: str, value: np.ndarray) -> torch.Tensor:
        """Return a tensor of the deployed graph as the module has it: integers dequantized."""
        if name not in self._levels:
            return torch.tensor(value)
        scale, zero_point = self._levels[name]
        return torch.tensor((value.astype(np.float32) - zero_point) * np.float32(scale))

    def compare_outputs(
        self, made: Mapping[str, torch.Tensor], answer: Mapping[str, np.ndarray]
    ) -> None:
        """Count by how many steps outputs part."""
        for name, value in made.items():
            steps = _steps(value.numpy(), answer[name], self._output_step(name, answer[name]))
            before = self.outputs.get(name, OutputParting(name, 0, 0, 0.0))
            self.outputs[name] = OutputParting(
                name,
                before.values + steps.size,
                before.parted + int((steps > 0.5 + TIE).sum()),
                max(before.steps, float(steps.max(initial=0.0))),
            )

    def compare(self, walked: Walked, answer: Mapping[str, np.ndarray]) -> None:
        """Count the values of a node's results that are at another level than ties explain."""
        for name, value in walked.outputs.items():
            if name not in self._compared:
                continue
            if walked.node.kind == f"{DOMAIN}::{ACTIVATION}":
                beyond = self._beyond_ties(walked, name, answer[name])
            else:
                step = _float_step(answer[name])
                beyond = _steps(value.numpy(), answer[name], step) - TIE
            self._add(name, beyond)

    def _beyond_ties(self, walked: Walked, name: str, levels: np.ndarray) -> np.ndarray:
        """Return how far levels are from what was rounded, less half a step and a tie."""
        scale, zero_point = self._levels[name]
        x = walked.inputs[0]
        assert x is not None  # noqa: S101 - a quantizer has an input
        lowest, highest = walked.node.integer("lowest"), walked.node.integer("highest")
        exact = np.clip(x.numpy().astype(np.float64) / scale + zero_point, lowest, highest)
        ties = self._rounding.ties(name, exact - zero_point)
        beyond: np.ndarray = np.abs(exact - levels.astype(np.float64)) - 0.5 - ties
        return beyond

    def _add(self, name: str, beyond: np.ndarray) -> None:
        before = self.tensors.get(name) or TensorParting(self._operator(name), name, 0, 0, 0.0)
        worst = np.nan_to_num(beyond, nan=np.inf)
        self.tensors[name] = TensorParting(
            before.operator,
            name,
            before.values + beyond.size,
            before.parted + int((worst > 0).sum()),
            max(before.steps, float(worst.max(initial=0.0))),
        )

    def _operator(self, name: str) -> str:
        """Return the operator whose result a tensor holds: the one before a quantizer."""
        from hasten.graph.operators import operator_label

        node = self._makers[name]
        if node.op_type == "QuantizeLinear" and node.input[0] in self._makers:
            before = self._makers[node.input[0]]
            node = node if before.op_type == "DequantizeLinear" else before
        return operator_label(node)

    def _output_step(self, name: str, value: np.ndarray) -> float:
        node = self._makers.get(name)
        if (
            node is not None
            and node.op_type == "DequantizeLinear"
            and node.input[0] in self._levels
        ):
            return self._levels[node.input[0]][0]
        return _float_step(value)


def _float_step(value: np.ndarray) -> float:
    """Return the step that a tensor of floats would have in 8 bits; 0 for other values."""
    if value.dtype.kind != "f":
        return 0.0
    finite = value[np.isfinite(value)].astype(np.float64)
    return float(np.ptp(finite) / _LEVELS) if finite.size else 0.0


def _steps(have: np.ndarray, want: np.ndarray, step: float) -> np.ndarray:
    """Return by how many steps values part; those of other kinds are the same or wholly apart."""
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        apart = np.abs(have.astype(np.float64) - want.astype(np.float64))
        apart = np.where((have == want) | (np.isnan(have) & np.isnan(want)), 0.0, apart)
        found = apart / step if step else np.where(apart > 0, np.inf, 0.0)
    result: np.ndarray = np.nan_to_num(found, nan=np.inf)
    return result
