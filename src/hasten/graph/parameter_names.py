"""Which constants of a graph training may change: known from PyTorch, and carried in the graph.

An ONNX graph holds parameters, buffers, masks and numbers of a formula alike, as initializers. What
PyTorch trains is written into the graph's ``metadata_props``, where it survives files and steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from hasten.errors import ModelError

if TYPE_CHECKING:
    import onnx

__all__ = ["Layout", "ParameterNames", "parameter_names", "with_parameter_names"]

_KEY = "hasten.parameters"

#: How a constant lies otherwise than its parameter, in order: ``transpose`` with the permutation,
#: ``reshape`` with the shape that it had before.
Layout = tuple[tuple[Literal["transpose", "reshape"], tuple[int, ...]], ...]


class ParameterNames(msgspec.Struct, frozen=True, omit_defaults=True):
    """Initializers that are trained, and ``fixed`` ones that look as if they were.

    A name that is in neither came later, of a step, or was never known. ``layouts`` says how an
    initializer lies otherwise than the parameter, ``tied`` by which other names it is known.
    """

    trained: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    layouts: dict[str, Layout] = {}
    tied: dict[str, tuple[str, ...]] = {}


def parameter_names(graph: onnx.ModelProto) -> ParameterNames | None:
    """Return what a graph says of its parameters; None where it says nothing.

    Raises ModelError where that cannot be read.
    """
    for entry in graph.metadata_props:
        if entry.key == _KEY:
            try:
                return msgspec.json.decode(entry.value, type=ParameterNames)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ModelError(
                    expected="names of trained and fixed parameters",
                    got=str(error),
                    where=f"metadata_props[{_KEY}]",
                    hint="remove this entry from the file",
                ) from None
    return None


def with_parameter_names(graph: onnx.ModelProto, names: ParameterNames | None) -> onnx.ModelProto:
    """Write into a graph, in place, which of its constants are parameters; None says nothing."""
    kept = [entry for entry in graph.metadata_props if entry.key != _KEY]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    if names is not None:
        graph.metadata_props.add(key=_KEY, value=msgspec.json.encode(names).decode())
    return graph
