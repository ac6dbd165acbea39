"""From a model to a file in one of the formats, with a comparison in between."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

from hasten.conversion.agreement import Agreement, Run, compare_runs
from hasten.conversion.drift import Outputs, first_drift
from hasten.data import Samples
from hasten.data.meaning import OutputKind
from hasten.errors import OptionError
from hasten.graph import Model, Signature, read_tflite, write_whole
from hasten.runtimes import EXACT, Arrays, Execution, Lowered, any_runtime, get_runtime
from hasten.worker.session import in_worker

if TYPE_CHECKING:
    from hasten.runtimes.litert.lowering import Lowering

__all__ = ["Conversion", "Kind", "Target", "UsedOperator", "convert", "require_tolerance"]

#: The formats that can be written.
Kind = Literal["onnx", "tflite"]

#: Sums are added up in another order: how much noise float outputs may have, as a share of what
#: varies over samples.
_ALLOWED = 1e-3
#: XNNPACK's sums and means of integers may be a step off, which layers behind them amplify.
_ALLOWED_QUANTIZED = 0.2
#: A batch that is free is tried at a second size.
_BATCH = 3
_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear"})


class Target(NamedTuple):
    """What is asked for; ``channels_last`` names image inputs that the file takes so.

    ``tolerance`` is how much noise outputs may have, as a share of what varies over samples: by
    default a thousandth, and more where the model is quantized. ``added`` is how much quantizing
    it has added already, as far as that is known: kernels that round otherwise draw that noise
    anew. ``kinds`` are what the user says outputs are.
    """

    kind: Kind
    path: Path
    channels_last: tuple[str, ...] = ()
    tolerance: float | None = None
    kinds: Mapping[str, OutputKind] = MappingProxyType({})
    added: float = 0.0

    def allowed(self, model: Model) -> float:
        """Return the tolerance that holds for a model."""
        if self.tolerance is not None:
            return self.tolerance
        if not _is_quantized(model):
            return _ALLOWED
        # What two draws of the same noise part by.
        return max(_ALLOWED_QUANTIZED, math.sqrt(2) * self.added)


def require_tolerance(tolerance: float | None) -> None:
    """Raise OptionError for a tolerance that is none."""
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise OptionError(
            expected="a share of 0 or more, such as 0.01", got=f"{tolerance:g}", where="--tolerance"
        )


class UsedOperator(msgspec.Struct, frozen=True):
    """A builtin operator that a file uses, as a selective build needs it."""

    name: str
    version: int
    count: int


class Conversion(msgspec.Struct, frozen=True):
    """What was written. ``free`` are the dimensions that may be of any size."""

    source: str
    path: str
    format: Kind
    size_bytes: int
    signature: Signature
    free: tuple[str, ...]
    agreement: Agreement
    operators: tuple[UsedOperator, ...] = ()
    notes: tuple[str, ...] = ()


class _Written(NamedTuple):
    """A file that waits beside its place for the comparison."""

    payload: bytes
    signature: Signature
    run: Run
    batch: int
    operators: tuple[UsedOperator, ...] = ()
    notes: tuple[str, ...] = ()


def convert(
    model: Model, cleaned: Model, samples: Samples, target: Target, scratch: Path
) -> Conversion:
    """Write ``cleaned`` in the target's format, unless its outputs part from those of ``model``.

    ``model`` is run where it belongs: a .tflite by LiteRT, a PyTorch model that becomes an ONNX
    graph by PyTorch, and a graph by ONNX Runtime without optimizations, which computes what it
    says. Raises RefusedError with every node that the format has no equal of, or with the output
    that parts too far and the first tensor that does; nothing is written then.
    """
    with ExitStack() as stack:
        make = {"tflite": _tflite, "onnx": _onnx}[target.kind]
        written = make(cleaned, target, scratch, stack)
        label, exact = _reference(model, target.kind)
        run = _opened(exact, any_runtime(exact).lower(model.original, scratch), scratch, stack)
        feeds = list(_feeds(samples, model.signature, written.batch))
        graph = model.graph if model.format == "onnx" else None
        differences, outputs = compare_runs(
            run, written.run, feeds, graph=graph, kinds=target.kinds
        )
        agreement = Agreement(
            left=label,
            right={"tflite": "litert", "onnx": "onnxruntime"}[target.kind],
            samples=len(samples),
            synthetic=samples.source == "synthetic data",
            allowed=target.allowed(model),
            differences=differences,
            outputs=outputs,
        )
    if agreement.parting:
        drift = _drift(cleaned, target, feeds, agreement.allowed, scratch)
        agreement = msgspec.structs.replace(agreement, drift=drift)
    agreement.require(model.name)
    write_whole(target.path, written.payload)
    return Conversion(
        source=model.name,
        path=str(target.path),
        format=target.kind,
        size_bytes=len(written.payload),
        signature=written.signature,
        free=tuple(_free(written.signature)),
        agreement=agreement,
        operators=written.operators,
        notes=written.notes,
    )


def _tflite(model: Model, target: Target, scratch: Path, stack: ExitStack) -> _Written:
    from hasten.runtimes.litert.lowering import lower_graph

    _require_images(model.signature, target.channels_last)
    lowering = lower_graph(model.graph, channels_last=frozenset(target.channels_last))
    path = scratch / "converted.tflite"
    path.write_bytes(lowering.content)
    signature = read_tflite(path).signature
    session = _opened("litert", Lowered(str(path), "tflite", signature), scratch, stack)

    def run(feed: Arrays) -> Arrays:
        return session(
            {
                name: _last(array) if name in target.channels_last else array
                for name, array in feed.items()
            }
        )

    batch = _BATCH if lowering.batch is None else 1
    operators = tuple(_used_operators(lowering))
    return _Written(lowering.content, signature, run, batch, operators, lowering.notes)


def _onnx(model: Model, target: Target, scratch: Path, stack: ExitStack) -> _Written:
    if target.channels_last:
        raise OptionError(
            expected="--nhwc with --to tflite",
            got=f"--nhwc {target.channels_last[0]} with --to onnx",
            where="--nhwc",
        )
    lowered = get_runtime("onnxruntime").lower(model, scratch)
    run = _opened("onnxruntime", lowered, scratch, stack)
    return _Written(model.payload, model.signature, run, _BATCH)


def _used_operators(lowering: Lowering) -> Iterator[UsedOperator]:
    """Yield the builtin operators of a lowered graph, by name."""
    from hasten.runtimes.litert.lowering.versions import version_of

    counts = Counter((one.kind, version_of(one)) for one in lowering.program.operators)
    for (name, version), count in sorted(counts.items()):
        yield UsedOperator(name, version, count)


def _reference(model: Model, kind: Kind) -> tuple[str, str]:
    """Return what to call the reference, and the runtime that it runs on."""
    if model.original.format == "tflite":
        return "the .tflite itself", "litert"
    if kind == "onnx" and model.torch is not None:
        return "pytorch", "pytorch"
    return "onnxruntime", EXACT


def _drift(
    model: Model, target: Target, feeds: Sequence[tuple[Arrays, int]], allowed: float, scratch: Path
) -> str:
    """Name the first tensor inside the graph that comes out otherwise in the target's format."""
    few = [feed for feed, count in feeds if count == feeds[0][1]][:2]

    def on(runtime: str) -> Outputs:
        def outputs(part: Model) -> list[Arrays]:
            lowered = any_runtime(runtime).lower(part, scratch)
            with in_worker(runtime, lowered, Execution(), scratch) as session:
                return [session.run(feed) for feed in few]

        return outputs

    other = {"tflite": "litert", "onnx": "onnxruntime"}[target.kind]
    return first_drift(model, on(EXACT), on(other), allowed)


def _opened(runtime: str, lowered: Lowered, scratch: Path, stack: ExitStack) -> Run:
    return stack.enter_context(in_worker(runtime, lowered, Execution(), scratch)).run


def _feeds(samples: Samples, signature: Signature, batch: int) -> Iterator[tuple[Arrays, int]]:
    """One sample alone, then the rest in batches; beside each feed, how many samples count."""
    parts = [(range(1), 1), (range(1, len(samples)), batch)]
    for indices, size in parts:
        if not indices:
            continue
        few = samples.select(list(indices))
        count = few.per_feed(signature) or size
        for at, (feed, _) in enumerate(few.batches(signature, size)):
            yield dict(feed), min(count, len(few) - at * count)


def _last(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def _free(signature: Signature) -> Iterator[str]:
    for spec in signature.inputs:
        for axis, dim in enumerate(spec.shape):
            if dim is None:
                yield f"axis {axis} of {spec.name}"


def _is_quantized(model: Model) -> bool:
    return any(node.op_type in _QUANTIZED for node in model.graph.graph.node)


def _require_images(signature: Signature, names: Sequence[str]) -> None:
    images = [spec.name for spec in signature.inputs if len(spec.shape) in {3, 4, 5}]
    for name in names:
        if name not in images:
            raise OptionError(
                expected=f"an input with channels: {', '.join(images) or 'this model has none'}",
                got=repr(name),
                where="--nhwc",
            )
