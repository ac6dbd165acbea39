"""The settings of a bundle's plan, held against the machine and against what the user allows."""

from __future__ import annotations

import math
import os
from typing import NamedTuple

import msgspec

from hasten.bundle.manifest import Manifest, PlanRecord
from hasten.errors import BundleError
from hasten.graph import Signature, numpy_dtype
from hasten.runtimes import NO_DELEGATE, RUNTIMES, Execution
from hasten.runtimes.litert.delegate import resolved

__all__ = ["Settled", "settled"]

#: A batch may take this share of the memory, inputs and outputs together.
_BATCH_SHARE = 4
#: Nothing gains from more rows at once, however small they are.
_MAX_ROWS = 65_536
_TEXT_BYTES = 8
_MAX_DIM = 2**31


class Settled(NamedTuple):
    """How a plan is run here, and what of it this machine is too small for."""

    execution: Execution
    notes: tuple[str, ...]


def settled(manifest: Manifest, where: str, *, delegate: str | None, trusted: bool) -> Settled:
    """Return the execution of a plan as it may run on this machine.

    ``delegate`` is the library that the caller names, and stands for any that the plan names; the
    plan's own counts in a ``trusted`` bundle alone. More threads and instances than there are
    processors become as many as there are, as a plan may come from a larger machine. Raises
    BundleError for a runtime or a setting that this release does not know, for numbers that are
    none, and for a library that nobody allowed.
    """
    plan = manifest.plan
    if plan.runtime not in RUNTIMES:
        known = f"a runtime of this release: {', '.join(RUNTIMES)}"
        raise BundleError(expected=known, got=repr(plan.runtime), where=f"{where}: plan.runtime")
    try:
        execution = msgspec.convert(plan.execution, Execution)
    except msgspec.ValidationError as error:
        raise BundleError(
            expected="bundle.json of format version 1", got=str(error), where=where
        ) from error
    _require_signature(manifest.signature, where)
    _require_rows(execution.batch, manifest.signature, f"{where}: plan.execution.batch")
    _require_serving(plan, manifest.signature, where)
    execution = _with_delegate(execution, where, delegate, trusted=trusted)
    return _on_this_machine(execution, where)


def _with_delegate(
    execution: Execution, where: str, delegate: str | None, *, trusted: bool
) -> Execution:
    if execution.delegate in {"", NO_DELEGATE}:
        return execution
    if delegate is not None:
        return msgspec.structs.replace(execution, delegate=resolved(delegate))
    if not trusted:
        raise BundleError(
            expected="a library that you name with --delegate, or a bundle signed by a key that"
            " you name with --trust",
            got=f"the library {execution.delegate[:200]!r}, named by the bundle alone",
            where=f"{where}: plan.execution.delegate",
            hint="it would run with all your rights",
        )
    return execution


def _on_this_machine(execution: Execution, where: str) -> Settled:
    for name in ("threads", "instances"):
        count = getattr(execution, name)
        if count < 1:
            raise BundleError(
                expected="1 or more", got=str(count), where=f"{where}: plan.execution.{name}"
            )
    processors = os.cpu_count() or 1
    threads = min(execution.threads, processors)
    instances = min(execution.instances, max(1, processors // threads))
    asked = f"{execution.instances} x {execution.threads} threads"
    if (threads, instances) == (execution.threads, execution.instances):
        return Settled(execution, ())
    note = f"the plan's {asked} become {instances} x {threads}: there are {processors} processors"
    fitted = msgspec.structs.replace(execution, threads=threads, instances=instances)
    return Settled(fitted, (note,))


def _require_signature(signature: Signature, where: str) -> None:
    """Raise BundleError for inputs and outputs that no arrays can be."""
    for spec in (*signature.inputs, *signature.outputs):
        place = f"{where}: signature of {spec.name!r:.100}"
        try:
            _item_bytes(spec.dtype)
        except TypeError:
            got = repr(spec.dtype)[:100]
            raise BundleError(expected="a dtype", got=got, where=place) from None
        if any(dim is not None and not 0 <= dim < _MAX_DIM for dim in spec.shape):
            raise BundleError(
                expected="dimensions from 0 to 2^31, or null", got=spec.layout[:100], where=place
            )


def _require_serving(plan: PlanRecord, signature: Signature, where: str) -> None:
    rows = plan.serving.get("max_batch_size", 0)
    where = f"{where}: plan.serving.max_batch_size"
    if isinstance(rows, bool) or not isinstance(rows, int):
        raise BundleError(expected="a whole number", got=repr(rows)[:100], where=where)
    if rows:
        _require_rows(rows, signature, where)


def _require_rows(rows: int, signature: Signature, where: str) -> None:
    """Raise BundleError for a batch that is none, or that this machine has no memory for."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    row_bytes = max(1, _row_bytes(signature))
    most = max(1, min(_MAX_ROWS, memory // _BATCH_SHARE // row_bytes))
    if not 1 <= rows <= most:
        raise BundleError(
            expected=f"a batch from 1 to {most}, which is what this machine has memory for",
            got=str(rows),
            where=where,
        )


def _row_bytes(signature: Signature) -> int:
    """Return the bytes of one row of all inputs and outputs, free dimensions taken as 1."""
    return sum(
        math.prod(max(1, dim or 1) for dim in spec.shape[1:]) * _item_bytes(spec.dtype)
        for spec in (*signature.inputs, *signature.outputs)
    )


def _item_bytes(dtype: str) -> int:
    return _TEXT_BYTES if dtype == "str" else max(1, numpy_dtype(dtype).itemsize)
