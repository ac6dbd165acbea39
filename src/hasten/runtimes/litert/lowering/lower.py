"""The whole way: a graph, lowered for a free batch where that is possible, as a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hasten.errors import RefusedError
from hasten.runtimes.litert.lowering.emission import emit_file, operator_codes
from hasten.runtimes.litert.lowering.free_batch import SIZES, merge
from hasten.runtimes.litert.lowering.fusion import fuse
from hasten.runtimes.litert.lowering.graph_walk import build_program, input_shapes
from hasten.runtimes.litert.lowering.opset import lifted
from hasten.runtimes.litert.lowering.patterns import with_gelu

if TYPE_CHECKING:
    import onnx

    from hasten.runtimes.litert.lowering.program import Program

__all__ = ["Lowering", "lower_graph"]


@dataclass(frozen=True, eq=False)
class Lowering:
    """A .tflite file, what it asks of a runtime, and which batch it takes (None: any)."""

    content: bytes
    program: Program
    batch: int | None
    notes: tuple[str, ...] = ()

    @property
    def operators(self) -> list[tuple[str, int]]:
        """Builtin operators with their versions, as a selective build needs them."""
        return sorted(operator_codes(self.program))


def lower_graph(proto: onnx.ModelProto, *, channels_last: frozenset[str] = frozenset()) -> Lowering:
    """Lower an ONNX graph with neither control flow nor shapes that depend on data.

    The first axis of inputs stays free where the graph allows it, else the batch is 1 and a note
    says why. Inputs named in ``channels_last`` are taken as batch, height, width, channels.

    Raises RefusedError that names each node without an equal in TFLite.
    """
    proto = with_gelu(lifted(proto))
    declared = input_shapes(proto)
    _require_fixed(declared)
    if not any(shape and not isinstance(shape[0], int) for shape in declared.values()):
        program = fuse(build_program(proto, dict(declared), channels_last))
        sizes = {shape[0] for shape in declared.values() if shape}
        batch = sizes.pop() if len(sizes) == 1 else 1
        return Lowering(emit_file(program), program, batch)
    two, three = (
        fuse(build_program(proto, _with_batch(declared, size), channels_last)) for size in SIZES
    )
    merged, reason = merge(two, three)
    if merged is not None:
        return Lowering(emit_file(merged), merged, None)
    program = fuse(build_program(proto, _with_batch(declared, 1), channels_last))
    note = f"the batch is fixed at 1: {reason}"
    program.notes.append(note)
    return Lowering(emit_file(program), program, 1, (note,))


def _require_fixed(declared: dict[str, tuple[int | str | None, ...]]) -> None:
    free = [
        f"axis {axis} of {name}"
        for name, shape in declared.items()
        for axis, dim in enumerate(shape)
        if axis > 0 and not isinstance(dim, int)
    ]
    if free:
        raise RefusedError(f"litert needs fixed sizes: {', '.join(free)} can be anything")


def _with_batch(
    declared: dict[str, tuple[int | str | None, ...]], batch: int
) -> dict[str, tuple[int, ...]]:
    return {
        name: tuple(dim if isinstance(dim, int) else batch for dim in shape)
        for name, shape in declared.items()
    }
