"""What a PyTorch module is exported with: its inputs, in forward's order, and examples of them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hasten.errors import OptionError
from hasten.graph.signature import InputSpec
from hasten.graph.torch_calls import Call

if TYPE_CHECKING:
    import torch

__all__ = [
    "as_written",
    "call_of",
    "dynamic_shapes",
    "example_tensor",
    "in_forward_order",
    "specs_of_example",
]

#: Size of a free dimension in the example. torch.export takes 0 and 1 for constants.
_FREE_SIZE = 2

#: How many inputs a module that takes ``*args`` may be given.
_MAX_VARIADIC = 8


def specs_of_example(example: Any, module: torch.nn.Module, where: str) -> tuple[InputSpec, ...]:
    """Read names, dtypes and shapes off an example; its first axis is the free batch."""
    if example is None:
        raise OptionError(
            expected="the inputs' names, dtypes and shapes",
            got="none",
            where=f"--input for {where}",
            hint="such as --input image=float32[batch,3,224,224], or an example in Python",
        )
    arrays = _example_arrays(example, module, where)
    for name, array in arrays.items():
        if not hasattr(array, "shape") or not hasattr(array, "dtype"):
            raise OptionError(
                expected=f"a tensor or an array as example for {name}",
                got=type(array).__name__,
                where=where,
            )
    batches = {int(array.shape[0]) for array in arrays.values() if len(array.shape)}
    if len(batches) > 1:
        raise OptionError(
            expected="examples of one batch size on the first axis",
            got=f"sizes {sorted(batches)}",
            where=where,
            hint="give inputs= with a name for each free dimension instead",
        )
    return tuple(
        InputSpec(name, str(array.dtype).removeprefix("torch."), _batched(tuple(array.shape)))
        for name, array in arrays.items()
    )


def _batched(shape: tuple[int, ...]) -> tuple[int | str, ...]:
    return ("batch", *(int(dim) for dim in shape[1:])) if shape else ()


def _example_arrays(example: Any, module: torch.nn.Module, where: str) -> dict[str, Any]:
    arguments = _arguments(module)
    inner = _one_dict(example)
    if inner is not None:
        return dict(inner)
    if isinstance(example, Mapping):
        strange = [str(name) for name in example if name not in arguments]
        if strange:
            raise OptionError(
                expected=f"an argument of forward: {', '.join(arguments)}",
                got=", ".join(strange),
                where=where,
            )
        return dict(example)
    arrays = tuple(example) if isinstance(example, tuple | list) else (example,)
    if len(arrays) > len(arguments):
        raise OptionError(
            expected=f"at most {len(arguments)} examples, for {', '.join(arguments)}",
            got=str(len(arrays)),
            where=where,
        )
    return dict(zip(arguments, arrays, strict=False))


def _arguments(module: torch.nn.Module) -> list[str]:
    """Return the arguments of forward; ``*args`` stands for several."""
    names = []
    for parameter in _parameters(module):
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{index}" for index in range(_MAX_VARIADIC)]
        elif parameter.kind is not parameter.VAR_KEYWORD:
            names.append(parameter.name)
    return names


def call_of(names: Sequence[str], module: torch.nn.Module, example: Any = None) -> Call:
    """Say how a module takes inputs of these names, which are in the order of its arguments.

    Names that are all forward's own, and leave out one before the last, go by keyword. Those of
    an example that is one argument, and a dict, go into such a dict.
    """
    if _one_dict(example) is not None:
        return "dict"
    by_name = set(names) <= set(_arguments(module))
    in_order = list(names) == _positional(module)[: len(names)]
    return "keyword" if by_name and not in_order else "positional"


def _one_dict(example: Any) -> Mapping[str, Any] | None:
    """Return the dict that an example gives as the only argument; None for another example."""
    if isinstance(example, tuple | list | Mapping) and len(example) == 1:
        (argument,) = example.values() if isinstance(example, Mapping) else example
        return argument if isinstance(argument, Mapping) else None
    return None


def _positional(module: torch.nn.Module) -> list[str]:
    keyword = inspect.Parameter.KEYWORD_ONLY
    alone = {parameter.name for parameter in _parameters(module) if parameter.kind is keyword}
    return [name for name in _arguments(module) if name not in alone]


def _parameters(module: torch.nn.Module) -> list[inspect.Parameter]:
    return list(inspect.signature(module.forward).parameters.values())


def in_forward_order(
    specs: tuple[InputSpec, ...], module: torch.nn.Module
) -> tuple[InputSpec, ...]:
    """Return the inputs as forward takes them.

    Where all are named after its arguments they go to those; else they are in order already.
    Raises OptionError when there are none, or two of one name.
    """
    arguments = _arguments(module)
    if all(spec.name in arguments for spec in specs):
        specs = tuple(sorted(specs, key=lambda spec: arguments.index(spec.name)))
    names = tuple(spec.name for spec in specs)
    if len(set(names)) != len(names) or not names:
        raise OptionError(
            expected="a name of its own for each input",
            got=", ".join(names) or "none",
            where="--input",
        )
    return specs


def example_tensor(spec: InputSpec) -> torch.Tensor:
    """Return ones of this layout: valid as indices, masks and pixels alike."""
    import torch

    shape = tuple(dim if isinstance(dim, int) else _FREE_SIZE for dim in spec.dims)
    dtype = getattr(torch, spec.dtype, None)
    if not isinstance(dtype, torch.dtype):
        raise OptionError(
            expected="a dtype that torch has", got=spec.dtype, where=f"--input {spec.name}"
        )
    return torch.ones(shape, dtype=dtype)


def dynamic_shapes(specs: Sequence[InputSpec], module: torch.nn.Module) -> tuple[Any, ...]:
    """Return torch.export's form of the free dimensions; one name is one dimension throughout.

    An input is an ``{axis: Dim}``. Those that go to ``*args`` form a tuple within the tuple.
    """
    from torch.export import Dim

    dims: dict[str, Any] = {}
    shapes = []
    for spec in specs:
        free = {axis: dim for axis, dim in enumerate(spec.dims) if isinstance(dim, str)}
        shapes.append({axis: dims.setdefault(dim, Dim(dim)) for axis, dim in free.items()})
    kinds = [parameter.kind for parameter in _parameters(module)]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        first = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        return (*shapes[:first], tuple(shapes[first:]))
    return tuple(shapes)


def as_written(specs: Sequence[InputSpec]) -> str:
    """Return the inputs as the command line has them."""
    return ", ".join(
        f"{spec.name}={spec.dtype}[{','.join(str(dim) for dim in spec.dims)}]" for spec in specs
    )
