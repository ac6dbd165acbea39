"""What LiteRT's GPU accelerator prints and says nowhere else: its adapter, and why it failed."""

from __future__ import annotations

import re

import msgspec

__all__ = ["Adapter", "adapter_of", "failure_of"]

_ADAPTER = re.compile(r"Selected adapter: (?P<name>.+?), arch=.*adapterType=(?P<kind>.+)")
_UNSUPPORTED = "operations are not supported by GPU delegate:\n"
#: Lines such as ``ERROR: [delegate_webgpu.cc:359] Failed to ...: INTERNAL: No adapters found``.
_ERROR = re.compile(r"ERROR: (?:\[[\w.:/]+\] )?(?P<words>[^\[\s].*)")
_CODE = re.compile(r"\b(?:INTERNAL|UNAVAILABLE|UNIMPLEMENTED|INVALID_ARGUMENT): ")


class Adapter(msgspec.Struct, frozen=True):
    """The GPU that was taken; ``software`` where a processor plays it."""

    name: str
    kind: str

    @property
    def software(self) -> bool:
        """Whether it is a processor that plays a GPU, such as SwiftShader."""
        return self.kind.startswith("CPU")


def adapter_of(log: str) -> Adapter | None:
    """The adapter that a log names; None where it names none."""
    found = _ADAPTER.search(log)
    return Adapter(found["name"], found["kind"].strip()) if found else None


def failure_of(log: str) -> str:
    """Why the accelerator did not take a model, in one line; empty where the log does not say.

    >>> failure_of("ERROR: [delegate.cc:3] Failed to initialize: INTERNAL: No adapters found")
    'Failed to initialize: No adapters found'
    """
    _, found, rest = log.partition(_UNSUPPORTED)
    if found:
        return f"it does not take {_operators(rest)}"
    error = _ERROR.search(log)
    return _CODE.sub("", error["words"]).strip() if error else ""


def _operators(listed: str) -> str:
    """``LOG_SOFTMAX: Operation is not supported.`` and its like, up to the line that ends them."""
    found = []
    for line in listed.splitlines():
        kind, colon, reason = line.partition(": ")
        if not colon or kind != kind.upper() or " " in kind:
            break
        found.append(f"{kind} ({reason.strip().rstrip('.')})")
    return ", ".join(found)
