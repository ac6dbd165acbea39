"""Arrays of other libraries, as NumPy's: tensors that require grad or lie elsewhere included."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hasten.errors import DataError, one_line
from hasten.graph import numpy_dtype

__all__ = ["is_array", "plain"]


def is_array(value: object) -> bool:
    """Whether this is an array or a tensor, or becomes one by itself."""
    if isinstance(value, np.ndarray | np.generic):
        return True
    return hasattr(value, "__array__") and not isinstance(value, type)


def plain(value: Any, where: str) -> NDArray[Any]:
    """Return values as an array of NumPy's; DataError for what is none."""
    try:
        return np.asarray(_on_host(value))
    except Exception as problem:
        raise DataError(expected="an array", got=one_line(problem), where=where) from problem


def _on_host(value: Any) -> Any:
    """Take a PyTorch tensor off its graph and its device; bfloat16 stays what it is."""
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is None or not isinstance(value, torch.Tensor):
        return value
    tensor = value.detach().cpu()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(numpy_dtype("bfloat16"))
    return tensor.resolve_conj().resolve_neg().numpy()
