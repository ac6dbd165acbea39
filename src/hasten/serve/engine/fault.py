"""Whose fault it is that a request failed: of its input, or of the model and the machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from hasten.errors import ExecutionLimitError, HastenError, InvalidRequestError

if TYPE_CHECKING:
    from hasten.serve.engine.suspects import Origin

__all__ = ["Blame", "fault_of"]

#: What runtimes write where the values of an input cannot be computed with.
_INPUT = ("out of data bounds", "out of bounds", "out of range", "by zero", "invalid index")
#: And where there is no memory left, whatever the input.
_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "MemoryError",
    "smaller than requested bytes",
    "ailed to allocate",
    "out of memory",
)
#: Who made the model chose the names in it; they say nothing of what went wrong.
_NAME = re.compile(r"Name:'[^']*'")
#: Of so many connections in a row nothing was answered: it is the model that fails.
_ALL_FAIL = 3


def fault_of(error: HastenError) -> Literal["input", "machine", "unknown"]:
    """Tell what the runtime's own words say of a failure.

    >>> fault_of(HastenError("INVALID_ARGUMENT : idx=9 must be within [-4,3]"))
    'input'
    >>> fault_of(HastenError("RuntimeError: bad allocation")), fault_of(HastenError("stod"))
    ('machine', 'unknown')
    """
    # The cause is the runtime's own error, of which a line of ours may have left out the end.
    words = _NAME.sub("", f"{error} {error.__cause__}")
    if "INVALID_ARGUMENT" in words:  # ONNX Runtime's own class for it
        return "input"
    if any(word in words for word in _MEMORY):
        return "machine"
    return "input" if any(word in words for word in _INPUT) else "unknown"


class Blame:
    """What runtimes do not say, others' requests do: a model that answers them is well.

    ``well`` says that it answered the warm-up. Called by the event loop's thread alone.
    """

    def __init__(self, *, well: bool = True) -> None:
        self._well = well
        #: Connections whose requests failed since one was answered.
        self._failing: set[Origin | None] = set()

    def answered(self) -> None:
        """Note that the model has answered somebody."""
        self._well = True
        if self._failing:
            self._failing.clear()

    def of(self, error: HastenError, origin: Origin | None, *, well: bool) -> HastenError:
        """Return the answer to a request that failed though it was run alone.

        ``well`` says that others of its batch were answered.
        """
        if isinstance(error, ExecutionLimitError):
            return error
        fault = fault_of(error)
        if fault == "unknown":
            self._failing.add(origin)
            well = well or (self._well and len(self._failing) < _ALL_FAIL)
            fault = "input" if well else "machine"
        if fault == "input":
            return InvalidRequestError(f"The model cannot be run on this input: {error}")
        return error
