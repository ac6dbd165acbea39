"""LiteRT's interpreter: XNNPACK, a delegate from a library, or the builtin kernels alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hasten.runtimes.binding import shapes_at
from hasten.runtimes.litert.delegate import load, parse
from hasten.runtimes.litert.placement import XNNPACK, Delegation, locate
from hasten.runtimes.placement import KERNELS, Placement
from hasten.runtimes.runtime import NO_DELEGATE, Arrays, Binding, Execution, Lowered
from hasten.runtimes.vendor import reported

if TYPE_CHECKING:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

__all__ = ["InterpreterSession", "open_interpreter"]

_RUNNING = reported("litert could not run")


def open_interpreter(lowered: Lowered, execution: Execution) -> InterpreterSession:
    """Allocate an interpreter; raises RuntimeFailureError in one line."""
    with reported("litert could not compile"):
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        resolver = OpResolverType.AUTO
        wanted, delegates, doing = XNNPACK, [], "litert could not compile"
        if execution.delegate == NO_DELEGATE:
            resolver, wanted = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES, KERNELS
        elif execution.delegate:
            library = parse(execution.delegate)
            delegates, wanted = [load(library)], library.name
            doing = f"litert could not compile with {library.name}"
        with reported(doing):
            interpreter = Interpreter(
                model_path=lowered.path,
                num_threads=execution.threads,
                experimental_delegates=delegates,
                experimental_op_resolver_type=resolver,
            )
            # What a library takes it has taken by now; XNNPACK takes its share when allocating.
            taken = _count_nodes(interpreter)
            interpreter.allocate_tensors()
        return InterpreterSession(interpreter, lowered, Delegation(wanted, taken))


class InterpreterSession:
    """One interpreter; free dimensions take the shape of each feed."""

    def __init__(self, interpreter: Interpreter, lowered: Lowered, delegation: Delegation) -> None:
        self._interpreter = interpreter
        self._lowered = lowered
        self._delegation = delegation
        specs = lowered.signature
        details = interpreter.get_input_details()
        self._inputs = {
            spec.name: detail["index"] for spec, detail in zip(specs.inputs, details, strict=True)
        }
        self._shapes: dict[str, tuple[int, ...]] = {
            spec.name: tuple(detail["shape"])
            for spec, detail in zip(specs.inputs, details, strict=True)
        }
        self._outputs = {
            spec.name: detail["index"]
            for spec, detail in zip(specs.outputs, interpreter.get_output_details(), strict=True)
        }

    def run(self, feed: Arrays) -> Arrays:
        """Run once; outputs are copied out of the interpreter's arena."""
        interpreter = self._interpreter
        with _RUNNING:
            self._resize({name: feed[name].shape for name in self._inputs})
            for name, index in self._inputs.items():
                interpreter.set_tensor(index, feed[name])
            interpreter.invoke()
            return {name: interpreter.get_tensor(at) for name, at in self._outputs.items()}

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = {}  # until all is allocated anew, no feed fits
        for name, index in self._inputs.items():
            self._interpreter.resize_tensor_input(index, shapes[name], strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = shapes

    def bind(self, rows: int) -> Binding | None:
        """Return the interpreter's own tensors at so many rows; None where more is free.

        A session has one set of tensors: the last binding is the one that holds.
        """
        shapes = shapes_at(self._lowered.signature, rows)
        if shapes is None:
            return None
        with _RUNNING:
            self._resize(dict(zip(self._inputs, shapes[0], strict=True)))
            return _TensorBinding(
                self._interpreter, list(self._inputs.values()), list(self._outputs.values())
            )

    def placement(self) -> Placement:
        """Return where every operator runs."""
        with reported("litert could not tell where operators run"):
            return locate(self._interpreter, self._delegation, self._lowered.nodes)

    def close(self) -> None:
        """Drop the interpreter: it frees its arena, then its delegates, with the last reference."""
        del self._interpreter


class _TensorBinding:
    """Views of an interpreter's tensors; it refuses to run while there is one, so none is kept."""

    def __init__(self, interpreter: Interpreter, inputs: list[int], outputs: list[int]) -> None:
        self._invoke = interpreter.invoke
        self._inputs = [interpreter.tensor(at) for at in inputs]
        self._outputs = [interpreter.tensor(at) for at in outputs]

    def inputs(self) -> tuple[np.ndarray, ...]:
        return tuple(view() for view in self._inputs)

    def run(self) -> None:
        with _RUNNING:
            self._invoke()

    def outputs(self) -> tuple[np.ndarray, ...]:
        return tuple(view() for view in self._outputs)


def _count_nodes(interpreter: Any) -> int:
    return int(interpreter._interpreter.NumNodes())
