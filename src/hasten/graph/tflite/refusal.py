"""What ends the reading of a file, and what only ends the import of one operator."""

from __future__ import annotations

__all__ = ["Damaged", "Unsupported"]


class Damaged(Exception):  # noqa: N818 - it says what was found, and becomes a ModelError
    """The bytes are no TensorFlow Lite model; the message is what was found in their place."""


class Unsupported(Exception):  # noqa: N818 - it says why, and is listed with the others
    """ONNX has no equal of this operator, or none was written; the message is the reason."""
