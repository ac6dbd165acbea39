"""How a PyTorch module is called, and what it answers: tensors in an order, with names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

__all__ = ["ADAPTED", "Call", "adapted", "named_tensors", "output_names"]

#: How inputs are passed: in the order of forward's arguments, by keyword, or as one dict.
Call = Literal["positional", "keyword", "dict"]
#: What stands before the names of a module's parameters in one that is adapted.
ADAPTED = "module."


def named_tensors(result: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield what a module returned, tensor by tensor, each with the keys that lead to it.

    Dicts, dataclasses such as ModelOutput of transformers, named tuples, tuples and lists are gone
    into; None is left out.

    >>> list(named_tensors({"logits": 1, "states": (2, None, 3)}))
    [(('logits',), 1), (('states', '0'), 2), (('states', '2'), 3)]
    """
    parts: Mapping[Any, Any]
    if result is None:
        return
    if isinstance(result, Mapping):
        parts = result
    elif dataclasses.is_dataclass(result):
        parts = {one.name: getattr(result, one.name) for one in dataclasses.fields(result)}
    elif isinstance(result, tuple) and hasattr(result, "_asdict"):
        parts = result._asdict()
    elif isinstance(result, list | tuple):
        parts = dict(enumerate(result))
    else:
        yield path, result
        return
    for key, value in parts.items():
        yield from named_tensors(value, (*path, str(key)))


def output_names(paths: Sequence[tuple[str, ...]], inputs: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each output; numbers alone get "output" before them, as inputs may.

    >>> output_names([("logits",), ("states", "0")], ["x"])
    ('logits', 'states_0')
    >>> output_names([()], ["x"]), output_names([("0",), ("1",)], ["x"])
    (('output',), ('output_0', 'output_1'))
    """
    names: list[str] = []
    for path in paths:
        name = "_".join(path)
        if not name or name[0].isdigit():
            name = "_".join(["output", *path])
        while name in names or name in inputs:
            name = f"{name}_output"
        names.append(name)
    return tuple(names)


def adapted(module: torch.nn.Module, names: Sequence[str], call: Call) -> torch.nn.Module:
    """Return a module that takes its inputs in this order and returns tensors in a plain dict.

    One that is alone in its answer, or has no names there, comes as itself or in a tuple.
    """
    found: torch.nn.Module = _adapter()(module, tuple(names), call)
    return found.eval()


@cache
def _adapter() -> Callable[..., Any]:
    from torch import nn

    class Adapter(nn.Module):
        def __init__(self, module: nn.Module, names: tuple[str, ...], call: Call) -> None:
            super().__init__()
            self.module, self.names, self.call = module, names, call

        def forward(self, *inputs: torch.Tensor) -> Any:
            named = dict(zip(self.names, inputs, strict=True))
            if self.call == "keyword":
                result = self.module(**named)
            elif self.call == "dict":
                result = self.module(named)
            else:
                result = self.module(*inputs)
            found = list(named_tensors(result))
            if all(not path or path[0].isdigit() for path, _ in found):
                values = tuple(value for _, value in found)
                return values[0] if len(values) == 1 else values
            outputs = output_names([path for path, _ in found], self.names)
            return dict(zip(outputs, (value for _, value in found), strict=True))

    return Adapter
