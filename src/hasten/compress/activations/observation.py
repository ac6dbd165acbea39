"""What calibration samples look like inside a model: ranges to be found, means to be kept."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hasten.compress.activations.channel_mean import ChannelMean
from hasten.compress.activations.histogram import Histogram
from hasten.compress.fold_input import normalised_tensor, pixel_range
from hasten.compress.quantization.bias_correction import correctable_inputs
from hasten.compress.quantization.calibration import Range
from hasten.compress.quantization.float_nodes import float_tensors
from hasten.compress.quantization.masks import before_softmax, holds_masks, masked_tensors
from hasten.compress.quantization.rectifiers import removed_by_writer
from hasten.compress.quantization.writer_form import quantized_kinds
from hasten.compress.step import Context, Observation
from hasten.errors import DataError, RefusedError
from hasten.graph import FLOAT, Signature, TensorSpec
from hasten.runtimes import Arrays, Execution, get_runtime
from hasten.worker.session import WorkerSession, in_worker

if TYPE_CHECKING:
    from hasten.graph import Model

__all__ = ["activations", "folded_ranges", "observe"]

#: One sample at a time: its activations are counted while the cache still holds them, and memory
#: is needed for one. More at once were no faster.
_BATCH = 1


def observe(model: Model, context: Context) -> Observation:
    """Run the calibration samples through the graph: histograms of activations, means of inputs.

    A histogram is kept of each float32 activation whose range the QDQ writer uses and is not known
    already, channel means of what convolutions and matrix products read; so memory does not grow
    with the number of samples. What holds a mask has neither, for no range would do. Observing the
    same model again costs nothing. Raises RefusedError where an activation is NaN.
    """
    if model.digest in context.observations:
        return context.observations[model.digest]
    if model.digest in context.unfolded:
        seen = observe(context.unfolded[model.digest], context)
        return _renamed(seen, {name: normalised_tensor(name) for name in context.preprocessing})
    inputs, produced = _watched(model, context)
    if not produced:
        raise RefusedError("the graph has no float32 activations that ONNX can infer")
    histograms = {name: Histogram(name=name) for name in (*inputs, *produced)}
    means = {of: ChannelMean(of.axis) for of in correctable_inputs(model.graph)}
    for values in activations(model, [*histograms, *(of.tensor for of in means)], context):
        for name, histogram in histograms.items():
            _add(histogram, values[name])
        for of, mean in means.items():
            mean.add(values[of.tensor])
    scores = before_softmax(model.graph)
    whole = {
        name: histogram
        for name, histogram in histograms.items()
        if not holds_masks(histogram, reaches_softmax=name in scores)
    }
    observation = Observation(whole, means)
    context.observations[model.digest] = observation
    return observation


def activations(
    model: Model,
    names: Sequence[str],
    context: Context,
    doing: str = "calibrating",
    *,
    session: WorkerSession | None = None,
) -> Generator[Arrays]:
    """Run the calibration samples through the graph; yield these float32 activations of each.

    They hold until the next are asked for: their memory is used again. Of a model with folded
    inputs they are those of the model before, which are the same. ``session`` is one that is open
    already, which saves starting a process. Raises RefusedError where there are no samples.
    """
    samples = context.calibration
    if samples is None:
        raise RefusedError("there are no calibration samples")
    if model.digest in context.unfolded:
        before = {normalised_tensor(name): name for name in context.preprocessing}
        wanted = [before.get(name, name) for name in names]
        before_folding = context.unfolded[model.digest]
        for values in activations(before_folding, wanted, context, doing, session=session):
            yield {name: values[before.get(name, name)] for name in names}
        return
    known = {spec.name for spec in model.signature.inputs}
    produced = [name for name in dict.fromkeys(names) if name not in known]
    watched = _with_outputs(model, produced) if produced else model
    _, rows_per_sample = next(samples.select([0]).batches(model.signature, 1))
    with (
        _opened(watched, context, session) as opened,
        context.progress.stage(doing, len(samples)) as advance,
    ):
        for feed, rows, outputs in opened.stream(samples.batches(model.signature, _BATCH)):
            yield _that_count({**feed, **outputs}, model.signature.batch, rows)
            advance(rows // rows_per_sample)


def _renamed(seen: Observation, names: Mapping[str, str]) -> Observation:
    """Return what was seen, with other names for some of the tensors."""
    return Observation(
        {names.get(name, name): histogram for name, histogram in seen.histograms.items()},
        {
            of._replace(tensor=names.get(of.tensor, of.tensor)): mean
            for of, mean in seen.means.items()
        },
    )


def _that_count(values: Arrays, batch: int | None, rows: int) -> Arrays:
    """Keep the first ``rows`` of a fixed batch: the others only repeat the last of them.

    A tensor that has no batch axis in front is kept whole: repeated values widen no range.
    """
    if batch is None or rows >= batch:
        return values
    return {
        name: value[:rows] if value.shape[:1] == (batch,) else value
        for name, value in values.items()
    }


def _add(histogram: Histogram, value: np.ndarray) -> None:
    try:
        histogram.add(value)
    except DataError as error:
        raise RefusedError(f"an activation cannot be calibrated: {error}") from error


@contextmanager
def _opened(
    model: Model, context: Context, session: WorkerSession | None
) -> Iterator[WorkerSession]:
    """Open a model in a worker for this once; nothing of it stays on disk."""
    lowered = get_runtime("onnxruntime").lower(model, context.scratch)
    how = Execution(threads=os.cpu_count() or 1)
    try:
        if session is not None:
            session.open("onnxruntime", lowered, how)
            yield session
        else:
            with in_worker("onnxruntime", lowered, how, context.scratch) as own:
                yield own
    finally:
        Path(lowered.path).unlink(missing_ok=True)


def _watched(model: Model, context: Context) -> tuple[list[str], list[str]]:
    """Return the float32 inputs, and the float32 results of nodes, that need a histogram."""
    graph = model.graph.graph
    floats = float_tensors(model.graph)
    kinds = quantized_kinds()
    quantized = {
        name for node in graph.node if node.op_type in kinds for name in (*node.input, *node.output)
    }
    removed = {name for name, end in removed_by_writer(model.graph).items() if end in floats}
    known = {*folded_ranges(model, context), *masked_tensors(model.graph)}
    wanted = (floats & quantized) - removed - known
    inputs = [spec.name for spec in model.signature.inputs if spec.name in wanted]
    return inputs, [name for node in graph.node for name in node.output if name in wanted]


def _with_outputs(model: Model, names: Sequence[str]) -> Model:
    """Return the model with these tensors as its outputs."""
    import onnx
    from onnx import helper

    graph = onnx.ModelProto()
    graph.CopyFrom(model.graph)
    del graph.graph.output[:]
    graph.graph.output.extend(helper.make_tensor_value_info(name, FLOAT, None) for name in names)
    outputs = tuple(TensorSpec(name, "float32", ()) for name in names)
    return replace(model, content=graph, signature=Signature(model.signature.inputs, outputs))


def folded_ranges(model: Model, context: Context) -> dict[str, Range]:
    """Float tensors made of folded pixels, with their ranges: known exactly, not observed.

    Where the normalisation allows it, the pixels themselves then are the quantized input.
    """
    folded = {spec.name for spec in model.signature.inputs if spec.dtype == "uint8"}
    return {
        normalised_tensor(name): Range.spanning(*pixel_range(preprocessing))
        for name, preprocessing in context.preprocessing.items()
        if name in folded
    }
