"""Cleaning: constants and batch norms folded, dead nodes gone, outputs checked to be the same."""

from __future__ import annotations

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hasten.errors import RefusedError, one_line
from hasten.graph.batch_norm import fold_batch_norms
from hasten.graph.constants import FLOAT, drop_unused
from hasten.graph.model import Model
from hasten.graph.onnx_file import signature_of
from hasten.graph.operators import all_scopes
from hasten.graph.parameter_names import ParameterNames, parameter_names, with_parameter_names

if TYPE_CHECKING:
    import onnx

__all__ = ["Arrays", "Run", "clean"]

Arrays = Mapping[str, np.ndarray]
Run = Callable[[Model, Arrays], Arrays]

#: Folding reorders sums: how far outputs may part, relative, and as a share of the largest value.
_RELATIVE = 1e-3
_ABSOLUTE = 1e-4

#: What onnxslim calls that which folds batch norms.
_FOLDING_NORMS = ("FusionConvBN", "FusionConvTransposeBN")

#: onnxslim copies the model several times, and beyond protobuf's limit works through files.
_MAX_BYTES = 2**31 - 1


def clean(model: Model, run: Run, feed: Arrays, *, keep_batch_norms: bool = False) -> Model:
    """Return the same model with less in it; names, dtypes and shapes at its edge stay.

    Every node of the result has a name of its own and every value that ONNX shape inference
    understands has its shape. ``run`` computes a model's outputs for ``feed``, and is called for
    both: cleaning is kept only where they agree. It is exact, so it is no step of the model.
    ``keep_batch_norms`` is for steps that ask them for something.

    Raises RefusedError with the reason when onnxslim fails or the outputs differ; the caller keeps
    the model as it was.
    """
    graph = model.graph
    if graph.ByteSize() > _MAX_BYTES:
        raise RefusedError(f"cleaning {model.name}: larger than 2 GB")
    whole = graph if keep_batch_norms else fold_batch_norms(graph)
    slim = _slimmed(whole, model.name, _FOLDING_NORMS if keep_batch_norms else ())
    _name_nodes(slim)
    slim = _with_shapes(slim, model.name)
    signature = signature_of(slim, where=model.name)
    if signature != model.signature:
        raise RefusedError(f"cleaning {model.name}: would change its inputs or outputs")
    cleaned = replace(model, content=slim, signature=signature)
    difference = _difference(run(model, feed), run(cleaned, feed))
    if difference:
        raise RefusedError(f"cleaning {model.name}: {difference}")
    return cleaned


def _slimmed(graph: onnx.ModelProto, name: str, skipped: Sequence[str]) -> onnx.ModelProto:
    import onnx
    import onnxslim
    from onnx import checker

    log = logging.getLogger("onnxslim")
    if not log.handlers:
        log.addHandler(logging.NullHandler())
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    hidden = _hide_parameters(copy)
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            slim: onnx.ModelProto = onnxslim.slim(copy, skip_fusion_patterns=list(skipped))
        _keep_edges(slim, graph)
        _show_parameters(slim, hidden, parameter_names(copy))
        checker.check_model(slim)
    except Exception as error:
        raise RefusedError(f"cleaning {name}: onnxslim failed with {one_line(error)}") from error
    return slim


def _keep_edges(slim: onnx.ModelProto, graph: onnx.ModelProto) -> None:
    """Put inputs back as they were: onnxslim drops those that no node reads."""
    constants = {tensor.name for tensor in graph.graph.initializer}
    inputs = [value for value in graph.graph.input if value.name not in constants]
    del slim.graph.input[:]
    slim.graph.input.extend(inputs)


def _hide_parameters(graph: onnx.ModelProto) -> list[onnx.TensorProto]:
    """Make inputs of what PyTorch trains, in place; return what it was.

    Cleaning takes constants for what they are: it merges two parameters that happen to be equal,
    and computes from one that is tied what makes it several.
    """
    from onnx import helper

    names = parameter_names(graph)
    if names is None:
        return []
    norms = [node for node in graph.graph.node if node.op_type == "BatchNormalization"]
    kept = {*names.trained, *(name for node in norms for name in node.input[1:])}
    hidden = [tensor for tensor in graph.graph.initializer if tensor.name in kept]
    others = [tensor for tensor in graph.graph.initializer if tensor.name not in kept]
    del graph.graph.initializer[:]
    graph.graph.initializer.extend(others)
    graph.graph.input.extend(
        helper.make_tensor_value_info(one.name, one.data_type, one.dims) for one in hidden
    )
    return hidden


def _show_parameters(
    graph: onnx.ModelProto, hidden: list[onnx.TensorProto], names: ParameterNames | None
) -> None:
    """Put parameters back, in place, with what is known of them; what was made anew is none."""
    graph.graph.initializer.extend(hidden)
    drop_unused(graph.graph)
    if names is None:
        return
    held = [one for one in graph.graph.initializer if one.data_type == FLOAT and one.dims]
    fixed = tuple(one.name for one in held if one.name not in names.trained)
    with_parameter_names(graph, msgspec.structs.replace(names, fixed=fixed))


def _name_nodes(graph: onnx.ModelProto) -> None:
    """Give each node a name of its own: quantizers and profiles tell nodes apart by it."""
    nodes = [node for scope in all_scopes(graph) for node in scope.node]
    taken = Counter(node.name for node in nodes if node.name)
    seen: set[str] = set()
    for node in nodes:
        if node.name and node.name not in seen:
            seen.add(node.name)
            continue
        base = node.name or node.op_type
        number = 0
        while not number or f"{base}_{number}" in taken or f"{base}_{number}" in seen:
            number += 1
        node.name = f"{base}_{number}"
        seen.add(node.name)


def _with_shapes(graph: onnx.ModelProto, name: str) -> onnx.ModelProto:
    from onnx import shape_inference

    try:
        return shape_inference.infer_shapes(graph, data_prop=True)
    except (shape_inference.InferenceError, ValueError, RuntimeError) as error:
        raise RefusedError(f"cleaning {name}: {one_line(error)}") from error


def _difference(before: Arrays, after: Arrays) -> str:
    """Say how the outputs part; empty where they agree."""
    for name, want in before.items():
        got = after.get(name)
        if got is None:
            return f"output {name} is gone"
        if got.dtype != want.dtype or got.shape != want.shape:
            return (
                f"output {name} was {want.dtype}{list(want.shape)}"
                f" and becomes {got.dtype}{list(got.shape)}"
            )
        largest = _off_by(want, got)
        if largest:
            return f"output {name} would be off by up to {largest:.3g}"
    return ""


def _off_by(want: np.ndarray, got: np.ndarray) -> float:
    """Return the largest difference where it is more than rounding, else 0."""
    if want.dtype.kind not in "fcV":
        return 0.0 if np.array_equal(want, got) else float("inf")
    exact, near = (np.asarray(array, dtype=np.float64) for array in (want, got))
    magnitude = float(np.max(np.abs(exact), initial=1.0, where=np.isfinite(exact)))
    if np.allclose(near, exact, rtol=_RELATIVE, atol=_ABSOLUTE * magnitude, equal_nan=True):
        return 0.0
    both = np.isfinite(exact) & np.isfinite(near)
    if not both.all():
        return float("inf")
    return float(np.max(np.abs(near - exact)))
