"""How an operator's lowering says that it cannot take a node."""

from __future__ import annotations

__all__ = ["Unsupported"]


class Unsupported(Exception):  # noqa: N818 - it never leaves the lowering, which gathers them all
    """The reason why one node has no equal in TFLite, without the node's name."""
