"""What was understood of an infer request's header: which inputs it has, and what it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

if TYPE_CHECKING:
    from hasten.serve.http.infer_header import InputTensor

__all__ = ["Asked", "InferCall", "Slot"]


class Asked(msgspec.Struct, frozen=True):
    """An output to answer with: its place in the signature, and how it is wanted."""

    at: int
    name: str
    binary: bool
    classes: int = 0


class Slot(msgspec.Struct, frozen=True):
    """Where the bytes of an input are behind the header."""

    at: int
    name: str
    datatype: str
    shape: tuple[int, ...]
    begin: int
    end: int


class InferCall:
    """What was understood of one header. ``head`` is the start of the last answer, to be reused."""

    __slots__ = (
        "asked",
        "body_bytes",
        "head",
        "head_shapes",
        "id",
        "implied",
        "inline",
        "keepable",
        "key",
        "one_json",
        "plain",
        "priority",
        "rows",
        "slots",
        "timeout_us",
        "view",
    )

    def __init__(self) -> None:
        self.id = ""
        self.rows = 1
        self.key: object = ()
        self.priority = 0
        self.timeout_us = 0
        self.slots: tuple[Slot, ...] = ()
        self.asked: tuple[Asked, ...] = ()
        self.body_bytes = 0
        #: Inputs whose values are in the JSON itself, and arrays that it left out, by their place
        #: in the signature.
        self.inline: dict[int, InputTensor] = {}
        self.implied: dict[int, np.ndarray] = {}
        self.keepable = False
        #: Whether the answer is tensors of a fixed size behind a head that may be kept.
        self.plain = False
        #: Whether it is one tensor in JSON.
        self.one_json = False
        #: Type, number of values and shape of the only input, where its bytes are its values.
        self.view: tuple[np.dtype[Any], int, tuple[int, ...]] | None = None
        self.head = b""
        self.head_shapes: tuple[tuple[int, ...], ...] = ()
