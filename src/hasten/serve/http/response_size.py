"""How long answers of a model will be, before they are computed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hasten.serve.http.datatypes import DATATYPES, datatype_of

if TYPE_CHECKING:
    from hasten.serve.engine.model import ServedModel

__all__ = ["ResponseSize"]

#: Rows that are shorter are not worth counting.
_SMALL_BYTES = 16_384


class ResponseSize:
    """The most bytes of a row's answer so far: by the signature where that says it.

    ``row_bytes`` is 0 while rows are short. Answers up to ``seen`` bytes teach nothing new.
    """

    __slots__ = ("row_bytes", "seen")

    def __init__(self, model: ServedModel) -> None:
        self.row_bytes = 0
        self.seen = _SMALL_BYTES
        size = 0
        for spec in model.signature.outputs:
            dims = spec.shape[model.batched :]
            known = [dim for dim in dims if dim is not None]
            datatype = datatype_of(spec.dtype)
            if len(known) == len(dims) and datatype != "BYTES":
                size += math.prod(known) * DATATYPES[datatype].itemsize
        self._learn(size)

    def see(self, parts: list[bytes | memoryview], rows: int) -> None:
        """Learn from an answer."""
        size = sum(map(len, parts))
        self.seen = max(self.seen, size if rows == 1 else 0)
        self._learn(-(-size // rows))

    def _learn(self, row_bytes: int) -> None:
        if row_bytes > _SMALL_BYTES:
            self.row_bytes = max(self.row_bytes, row_bytes)
