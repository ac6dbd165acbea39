"""After lowering: what operators can do on the side moves into them, and dead operators go.

Activations, factors and offsets go into the operator before them, also where a RESHAPE that keeps
channels lies between; a RESHAPE of a RESHAPE is one.
"""

from __future__ import annotations

from collections import Counter

from hasten.runtimes.litert.lowering.folding import fold
from hasten.runtimes.litert.lowering.program import Operator, Program, Tensor

__all__ = ["fuse"]

#: ActivationFunctionType of schema.fbs.
_ACTIVATIONS = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}

_FUSING = frozenset(
    {
        "ADD",
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "CONV_3D",
        "DEPTHWISE_CONV_2D",
        "DIV",
        "FULLY_CONNECTED",
        "MAX_POOL_2D",
        "MUL",
        "SUB",
    }
)


def fuse(program: Program) -> Program:
    """Return the program with fused activations and without what no output needs."""
    return _Fusion(program).run()


class _Fusion:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._readers = Counter(
            id(one) for op in program.operators for one in op.inputs if one is not None
        )
        self._readers.update(id(tensor) for tensor in program.outputs)
        self._writer: dict[int, Operator] = {}
        #: Tensors that turned out to be others.
        self._same: dict[int, Tensor] = {}

    def run(self) -> Program:
        kept: list[Operator] = []
        for operator in self._program.operators:
            operator.inputs = [
                one if one is None else self._same.get(id(one), one) for one in operator.inputs
            ]
            if self._reshapes_nothing(operator) or self._absorbed(operator):
                continue
            kept.append(operator)
            for tensor in operator.outputs:
                self._writer[id(tensor)] = operator
        outputs = self._program.outputs
        return Program(self._program.inputs, outputs, _alive(kept, outputs), self._program.notes)

    def _absorbed(self, operator: Operator) -> bool:
        """Whether the operator before it does its work now."""
        for read in operator.inputs[:2]:
            last = self._writer.get(id(read))
            if last is None or read is None or self._readers[id(read)] != 1:
                continue
            if read.shape != operator.outputs[0].shape:
                continue
            before = self._beyond(last)
            if _activates(before, operator):
                before.options["fusedActivationFunction"] = _ACTIVATIONS[operator.kind]
            elif operator.kind not in {"MUL", "ADD", "SUB"} or not fold(before, operator):
                continue
            last.outputs = operator.outputs
            self._writer[id(operator.outputs[0])] = last
            return True
        return False

    def _beyond(self, last: Operator) -> Operator:
        """What wrote the operand of a RESHAPE that keeps channels and is all that reads it."""
        source = last.inputs[0]
        if last.kind != "RESHAPE" or source is None or self._readers[id(source)] != 1:
            return last
        before = self._writer.get(id(source))
        same = source.shape[-1:] == last.outputs[0].shape[-1:]
        return before if before is not None and same else last

    def _reshapes_nothing(self, operator: Operator) -> bool:
        """Join a RESHAPE with one before it; whether nothing is left to do."""
        if operator.kind != "RESHAPE":
            return False
        before = self._writer.get(id(operator.inputs[0]))
        if before is None or before.kind != "RESHAPE":
            return False
        source, made = before.inputs[0], operator.outputs[0]
        if source is None:
            return False
        self._readers[id(operator.inputs[0])] -= 1
        if self._readers[id(operator.inputs[0])]:
            self._readers[id(source)] += 1
        operator.inputs[0] = source
        if source.shape != made.shape or any(made is one for one in self._program.outputs):
            return False
        self._same[id(made)] = source
        self._readers[id(source)] += self._readers[id(made)] - 1
        return True


def _activates(before: Operator, after: Operator) -> bool:
    if after.kind not in _ACTIVATIONS or before.kind not in _FUSING:
        return False
    if before.options.get("fusedActivationFunction", 0):
        return False
    have, want = before.outputs[0], after.outputs[0]
    if have.dtype.kind not in "fi":
        return False
    if have.quantization is None:
        return want.quantization is None and have.dtype.kind == "f"
    return have.dtype == want.dtype and have.quantization.same(want.quantization)


def _alive(operators: list[Operator], outputs: list[Tensor]) -> list[Operator]:
    needed = {id(tensor) for tensor in outputs}
    kept = []
    for operator in reversed(operators):
        if needed.isdisjoint(id(tensor) for tensor in operator.outputs):
            continue
        needed.update(id(tensor) for tensor in operator.inputs if tensor is not None)
        kept.append(operator)
    return kept[::-1]
