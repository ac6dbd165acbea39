"""After lowering: activations move into the operator before them, and dead operators go."""

from __future__ import annotations

from collections import Counter

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
    readers = Counter(id(one) for op in program.operators for one in op.inputs if one is not None)
    readers.update(id(tensor) for tensor in program.outputs)
    writer: dict[int, Operator] = {}
    kept: list[Operator] = []
    for operator in program.operators:
        before = writer.get(id(operator.inputs[0]))
        if before is not None and _fusable(before, operator, readers):
            before.options["fusedActivationFunction"] = _ACTIVATIONS[operator.kind]
            before.outputs = operator.outputs
            writer[id(operator.outputs[0])] = before
            continue
        kept.append(operator)
        for tensor in operator.outputs:
            writer[id(tensor)] = operator
    return Program(program.inputs, program.outputs, _alive(kept, program.outputs), program.notes)


def _fusable(before: Operator, after: Operator, readers: Counter[int]) -> bool:
    if after.kind not in _ACTIVATIONS or before.kind not in _FUSING:
        return False
    if before.options.get("fusedActivationFunction", 0):
        return False
    have, want = before.outputs[0], after.outputs[0]
    if readers[id(have)] != 1 or have.dtype.kind not in "fi":
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
