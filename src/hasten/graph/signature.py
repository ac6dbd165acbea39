"""What goes into a model and what comes out: names, dtypes and shapes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hasten.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["InputSpec", "Signature", "TensorSpec", "numpy_dtype", "parse_input"]

_INPUT = re.compile(r"(?P<name>[^=\s]+)=(?P<dtype>\w+)\[(?P<dims>[^\]]*)\]")


def numpy_dtype(name: str) -> np.dtype[np.generic]:
    """NumPy's dtype for a name; raises TypeError if unknown.

    bfloat16, the 8-bit floats and the 4-bit integers come from ml_dtypes.

    >>> numpy_dtype("bfloat16").itemsize
    2
    """
    import ml_dtypes

    beyond_numpy = name.startswith(("bfloat", "float", "int", "uint"))
    kind = getattr(ml_dtypes, name, name) if beyond_numpy else name
    found: np.dtype[np.generic] = np.dtype(kind)
    return found


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output: ``shape`` holds ints, and None for a dimension that is free.

    >>> str(TensorSpec("image", "float32", (None, 3, 224, 224)))
    'image: float32[?,3,224,224]'
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.layout}"

    @property
    def layout(self) -> str:
        """The dtype and shape in one word, such as ``float32[?,3,224,224]``."""
        dims = ",".join("?" if dim is None else str(dim) for dim in self.shape)
        return f"{self.dtype}[{dims}]"

    @property
    def batch(self) -> int | None:
        """Size of the first axis; None where it is free. A scalar has batch 1."""
        return self.shape[0] if self.shape else 1

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape may be fed here."""
        return len(shape) == len(self.shape) and all(
            want is None or want == have for want, have in zip(self.shape, shape, strict=True)
        )


class Signature(msgspec.Struct, frozen=True):
    """The inputs and outputs of a model, in the model's own order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def input(self, name: str) -> TensorSpec:
        """Return the input of this name; raises KeyError."""
        return _named(self.inputs, name)

    def output(self, name: str) -> TensorSpec:
        """Return the output of this name; raises KeyError."""
        return _named(self.outputs, name)

    @property
    def batch(self) -> int | None:
        """The batch size the inputs ask for: an int where fixed, None where free."""
        sizes = {spec.batch for spec in self.inputs}
        fixed = sizes - {None}
        return min(size for size in fixed if size is not None) if fixed else None

    @property
    def batchable(self) -> bool:
        """Whether the first axis may be a batch: it is free in every tensor.

        Whether rows are independent there, so that requests may share one, is ``Model.rows``'s.

        >>> image = TensorSpec("image", "uint8", (None, 8, 8))
        >>> Signature((image,), (TensorSpec("label", "int64", (None,)),)).batchable
        True
        >>> Signature((image,), (TensorSpec("mean", "float32", ()),)).batchable
        False
        """
        specs = (*self.inputs, *self.outputs)
        return all(spec.shape and spec.batch is None for spec in specs)


def _named(specs: Iterable[TensorSpec], name: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise KeyError(name)


class InputSpec(msgspec.Struct, frozen=True):
    """An input as written on the command line: free dimensions carry the name they were given."""

    name: str
    dtype: str
    dims: tuple[int | str, ...]

    @property
    def tensor(self) -> TensorSpec:
        """The same without names: a named dimension becomes None."""
        shape = tuple(dim if isinstance(dim, int) else None for dim in self.dims)
        return TensorSpec(self.name, self.dtype, shape)


def parse_input(text: str) -> InputSpec:
    """Read ``name=dtype[dim,...]``, where a dimension is a number or the name of a free one.

    >>> parse_input("image=float32[batch,3,224,224]").dims
    ('batch', 3, 224, 224)

    Raises OptionError when the text has another form or names an unknown dtype.
    """
    match = _INPUT.fullmatch(text.strip())
    if match is None:
        raise OptionError(
            expected="name=dtype[dim,...] such as image=float32[batch,3,224,224]",
            got=repr(text),
            where="--input",
        )
    try:
        numpy_dtype(match["dtype"])
    except TypeError:
        raise OptionError(
            expected="a dtype such as float32", got=match["dtype"], where=f"--input {text}"
        ) from None
    words = match["dims"].split(",") if match["dims"].strip() else []
    dims = tuple(_dim(word.strip(), text) for word in words)
    return InputSpec(match["name"], match["dtype"], dims)


def _dim(word: str, text: str) -> int | str:
    if word.isidentifier():
        return word
    if word.isdecimal() and int(word) > 0:
        return int(word)
    raise OptionError(
        expected="a dimension that is a positive number or a name",
        got=repr(word),
        where=f"--input {text}",
    )
