"""Every error Hasten raises on purpose, in one tree.

::

    HastenError
    ├── InputError          what the user gave cannot be used        (exit 2)
    │   ├── ModelError      the model
    │   ├── DataError       the samples, labels or metric
    │   ├── OptionError     a flag or argument
    │   ├── OutputError     the place to write to
    │   ├── BundleError     a bundle that is damaged or foreign
    │   └── MissingExtraError  an optional dependency that is not installed
    ├── RefusedError        a step or runtime does not take this model (listed, the race goes on)
    ├── RuntimeFailureError a runtime failed, crashed or hung          (listed, the race goes on)
    └── RequestError        a served model does not answer this request
        ├── InvalidRequestError  it does not fit the model
        ├── UnknownModelError    there is no such model or version
        ├── OverloadedError      its deadline cannot be met, or the queue is full
        ├── ExpiredError         it waited longer than it may
        └── ExecutionLimitError  it ran longer than it may

A message says what was expected, what was got, where, and what to do about it. ``one_line`` says
what went wrong in code that is not ours, and ``foreign`` turns it into an error of ours.
"""

from __future__ import annotations

__all__ = [
    "BundleError",
    "DataError",
    "ExecutionLimitError",
    "ExpiredError",
    "HastenError",
    "InputError",
    "InvalidRequestError",
    "MissingExtraError",
    "ModelError",
    "OptionError",
    "OutputError",
    "OverloadedError",
    "RefusedError",
    "RequestError",
    "RuntimeFailureError",
    "UnknownModelError",
    "foreign",
    "one_line",
]


class HastenError(Exception):
    """Root of the tree: catch this to catch all that Hasten raises on purpose."""


class InputError(HastenError):
    """Something the user gave cannot be used.

    >>> print(DataError(expected="float32", got="float64", where="val.npz: image", hint="cast it"))
    Expected float32, got float64 - at val.npz: image (cast it)
    """

    def __init__(self, *, expected: str, got: str, where: str, hint: str = "") -> None:
        self.expected = expected
        self.got = got
        self.where = where
        self.hint = hint
        suffix = f" ({hint})" if hint else ""
        super().__init__(f"Expected {expected}, got {got} - at {where}{suffix}")


class ModelError(InputError):
    """The model is missing, damaged or not of a kind that can be read."""


class DataError(InputError):
    """Samples, labels or a metric do not fit the model or each other."""


class OptionError(InputError):
    """A flag or an argument has a value that cannot be used."""


class OutputError(InputError):
    """The place to write to is taken or cannot be written."""


class BundleError(InputError):
    """A bundle is damaged, incomplete or of a format version this release does not read."""


class MissingExtraError(InputError):
    """An optional dependency is needed and not installed.

    >>> print(MissingExtraError("openvino", needed_by="--runtime openvino"))
    Expected the extra 'openvino', got no such package installed - at --runtime openvino \
(run: pip install 'hasten[openvino]')
    """

    def __init__(self, extra: str, *, needed_by: str) -> None:
        super().__init__(
            expected=f"the extra '{extra}'",
            got="no such package installed",
            where=needed_by,
            hint=f"run: pip install 'hasten[{extra}]'",
        )


class RefusedError(HastenError):
    """A step or a runtime does not take this model; the message is the reason."""


class RuntimeFailureError(HastenError):
    """A runtime failed, crashed or hung while compiling or running a model."""


class RequestError(HastenError):
    """A served model does not answer this request."""


class InvalidRequestError(RequestError):
    """A request does not fit the model: a name, dtype, shape, size or value."""


class UnknownModelError(RequestError):
    """There is no model, or no version of it, of this name."""


class OverloadedError(RequestError):
    """More is asked than can be answered in time; worth another try after ``retry_after_s``."""

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ExpiredError(RequestError):
    """A request waited longer than its timeout or latency goal allows."""


class ExecutionLimitError(RequestError):
    """A request ran longer than the model's execution limit allows."""


def one_line(error: BaseException, *, lines: int | None = None, limit: int = 300) -> str:
    r"""Return the type and the message of an exception as one line of at most ``limit`` characters.

    Of the message's lines that are not blank only the first ``lines`` are taken, if given.

    >>> one_line(ValueError("first\n  second"))
    'ValueError: first second'
    >>> one_line(ValueError("\nfirst\nsecond"), lines=1), one_line(KeyError())
    ('ValueError: first', 'KeyError')
    """
    written = [line for line in str(error).splitlines() if line.strip()][:lines]
    words = " ".join(" ".join(written).split())
    text = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


class foreign:  # noqa: N801 - used as a statement, like contextlib.suppress
    """Turn whatever code that is not ours raises inside into an InputError of one line.

    That code is a library that reads a file, or a function of the user's; ``sys.exit()`` in it is
    an error as well, for it would end the program as if all were done. Errors of ours pass, and so
    does Ctrl-C.

    >>> with foreign(DataError, expected="a number", where="labels.csv"):
    ...     int("x")
    Traceback (most recent call last):
    hasten.errors.DataError: Expected a number, got ValueError: invalid literal for int() with \
base 10: 'x' - at labels.csv
    """

    def __init__(
        self,
        error: type[InputError],
        *,
        expected: str,
        where: str,
        hint: str = "",
        lines: int | None = None,
    ) -> None:
        self._error = error
        self._expected = expected
        self._where = where
        self._hint = hint
        self._lines = lines

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        if isinstance(problem, HastenError) or not isinstance(problem, Exception | SystemExit):
            return
        raise self._error(
            expected=self._expected,
            got=_told(problem, self._lines),
            where=self._where,
            hint=self._hint,
        ) from problem


def _told(problem: BaseException, lines: int | None) -> str:
    if isinstance(problem, SystemExit):
        return f"sys.exit({problem.code!r})"
    return one_line(problem, lines=lines)
