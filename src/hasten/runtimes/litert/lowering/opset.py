"""Graphs of an opset before 7, whose broadcasting was another one, in a later opset."""

from __future__ import annotations

import onnx
from onnx import version_converter

from hasten.errors import RefusedError
from hasten.graph.operators import is_default_domain

__all__ = ["lifted", "opset_of"]

#: The first with NumPy's broadcasting; what follows is read as it is.
_FIRST = 7
#: Old graphs are lifted to this: far enough for their operators, and all of it is covered.
_LIFTED = 13


def opset_of(proto: onnx.ModelProto) -> int:
    """Version of ONNX's own operators; 1 where the model names none."""
    imports = proto.opset_import
    return max((one.version for one in imports if is_default_domain(one.domain)), default=1)


def lifted(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in an opset that can be read.

    Raises RefusedError where ONNX's converter cannot bring it there.
    """
    found = opset_of(proto)
    if found >= _FIRST:
        return proto
    try:
        return version_converter.convert_version(proto, _LIFTED)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())
        raise RefusedError(
            f"litert reads opset {_FIRST} or later, got {found}, which cannot be lifted: {reason}"
        ) from None
