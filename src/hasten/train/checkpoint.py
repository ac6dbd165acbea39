"""Where a training stands, on disk: written whole or not at all, and read without running code."""

from __future__ import annotations

import hashlib
import io
import pickle
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from hasten.cache_folder import private_folder
from hasten.errors import ModelError, OutputError, one_line
from hasten.graph import write_whole

__all__ = ["Checkpoint", "read_checkpoint", "write_checkpoint"]

_FILE = "training.pt"
_FORMAT = 2
_SEAL = b"\nsha256 "


@dataclass
class Checkpoint:
    """The state after ``epoch`` epochs: tensors, numbers and text alone.

    ``best`` is the module after ``best_epoch``, the last with the metric ``best_metric``;
    ``better_epoch`` is the first that reached it.
    ``key`` says which training this is: one of other settings or samples does not go on from it.
    """

    key: str
    epoch: int = 0
    module: dict[str, torch.Tensor] = field(default_factory=dict)
    loss: dict[str, torch.Tensor] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    best: dict[str, torch.Tensor] | None = None
    best_epoch: int = 0
    best_metric: float | None = None
    better_epoch: int = 0
    records: list[dict[str, float | None]] = field(default_factory=list)
    format: int = _FORMAT


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint of a folder; OutputError where it cannot, and the old one stays."""
    content = io.BytesIO()
    state = {each.name: getattr(checkpoint, each.name) for each in fields(checkpoint)}
    torch.save(state, content)
    try:
        private_folder(folder)
        write_whole(folder / _FILE, _sealed(content.getvalue()), mode=0o600)
    except (OSError, OutputError) as error:
        got = error.got if isinstance(error, OutputError) else error.strerror or str(error)
        raise OutputError(
            expected=f"room for a checkpoint of {content.tell() / 1e6:.1f} MB",
            got=got,
            where=str(folder),
            hint="the last one is kept, and training goes on from it when it is run again",
        ) from None


def read_checkpoint(folder: Path, key: str) -> Checkpoint | None:
    """Return the checkpoint of a folder, None where there is none.

    Raises ModelError for one that is damaged or is of another training.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        state = _opened(path.read_bytes())
        content = torch.load(io.BytesIO(state), map_location="cpu", weights_only=True)
        found = Checkpoint(**content)
    except (
        OSError,
        RuntimeError,
        EOFError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        raise ModelError(
            expected="a checkpoint of a training",
            got=one_line(error, lines=1),
            where=str(path),
            hint="remove it to begin anew",
        ) from None
    if found.format != _FORMAT or found.key != key:
        raise ModelError(
            expected="the checkpoint of this training",
            got="one of other settings, samples or weights",
            where=str(path),
            hint="give another folder, or remove it to begin anew",
        )
    return found


def _sealed(state: bytes) -> bytes:
    """Append the digest: behind the archive that torch writes, where torch.load passes it over."""
    return state + _SEAL + hashlib.sha256(state).hexdigest().encode()


def _opened(content: bytes) -> bytes:
    """Return what was sealed; raises ValueError where a bit of it is another."""
    state, _, digest = content.rpartition(_SEAL)
    if digest != hashlib.sha256(state).hexdigest().encode():
        raise ValueError("its digest is that of other bytes")
    return state
