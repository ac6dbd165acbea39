"""Teachers: whatever answers for the samples that a student learns from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from hasten.errors import ModelError, OptionError
from hasten.graph import Model, Signature, with_outputs
from hasten.graph.torch_calls import named_tensors, output_names
from hasten.runtimes import Execution, get_runtime
from hasten.train.endpoint import Endpoint
from hasten.worker.session import WorkerSession

__all__ = ["GraphTeacher", "ModuleTeacher", "Teacher", "matched", "open_teacher"]

Arrays: TypeAlias = "dict[str, NDArray[Any]]"


class Teacher(Protocol):
    """Answers for a feed of the student: arrays by input name in, by output name out."""

    def answer(self, feed: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs for this feed."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class GraphTeacher:
    """A graph run by ONNX Runtime in a process of its own; of a fixed batch, as often as it takes.

    ``hints`` name tensors inside it that are answered beside its outputs.
    """

    def __init__(
        self, model: Model, student: Signature, scratch: Path, hints: Sequence[str] = ()
    ) -> None:
        if model.format != "onnx":
            raise ModelError(expected="an ONNX graph", got="a .tflite", where="teacher")
        _require_inputs(model.signature, student)
        if hints:
            try:
                model = with_outputs(model, hints)
            except KeyError as error:
                raise ModelError(
                    expected=f"a tensor '{error.args[0]}'", got="none", where="teacher"
                ) from None
        self._signature = model.signature
        lowered = get_runtime("onnxruntime").lower(model, scratch)
        self._session = WorkerSession(scratch)
        self._session.open("onnxruntime", lowered, Execution(threads=os.cpu_count() or 1))

    def answer(self, feed: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs, in the teacher's order."""
        renamed = {
            spec.name: value
            for spec, value in zip(self._signature.inputs, feed.values(), strict=True)
        }
        if all(spec.name in feed for spec in self._signature.inputs):
            renamed = dict(feed)
        batch, rows = self._signature.batch, len(next(iter(feed.values())))
        if batch is None or batch == rows:
            return _arrays(self._session.run(renamed))
        parts = []
        for start in range(0, rows, batch):
            at = np.minimum(np.arange(start, start + batch), rows - 1)
            part = _arrays(self._session.run({name: value[at] for name, value in renamed.items()}))
            parts.append({name: value[: rows - start] for name, value in part.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def close(self) -> None:
        """Close the session."""
        self._session.close()


class ModuleTeacher:
    """A PyTorch module, called with the inputs in the student's order, in evaluation mode."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        tensors = [*module.parameters(), *module.buffers()]
        self._device = tensors[0].device if tensors else torch.device("cpu")

    def answer(self, feed: Mapping[str, NDArray[Any]]) -> Arrays:
        """Return the outputs, named by their number where the module does not name them."""
        was_training = self._module.training
        self._module.eval()
        with torch.inference_mode():
            inputs = [torch.tensor(value, device=self._device) for value in feed.values()]
            found = self._module(*inputs)
        self._module.train(was_training)
        tensors = list(named_tensors(found))
        names = output_names([path for path, _ in tensors], ())
        return {name: value.cpu().numpy() for name, (_, value) in zip(names, tensors, strict=True)}

    def close(self) -> None:
        """Keep the module: it is the caller's."""


def open_teacher(
    source: Model | nn.Module | str,
    student: Signature,
    scratch: Path,
    *,
    hints: Sequence[str] = (),
) -> Teacher:
    """Return the teacher that a graph, a module or the URL of a served model is.

    Raises ModelError where its inputs are not the student's, OptionError for what is no teacher,
    or for ``hints``, tensors inside it, of one that is no graph.
    """
    if isinstance(source, Model):
        return GraphTeacher(source, student, scratch, hints)
    if hints:
        raise OptionError(
            expected="a graph as the teacher, whose tensors have names",
            got="a module or a URL",
            where="hints",
        )
    if isinstance(source, nn.Module):
        return ModuleTeacher(source)
    if str(source).startswith(("http://", "https://")):
        return Endpoint(source)
    raise OptionError(
        expected="a model, a torch.nn.Module or the URL of a served model",
        got=repr(source)[:100],
        where="teacher",
    )


def matched(answers: Arrays, outputs: Mapping[str, tuple[int, ...]]) -> Arrays:
    """Return a teacher's answers by the names of the student's outputs, given by their shapes.

    Outputs of the same names are taken by these, else all of them in their order. Raises
    ModelError where they are not of the student's shapes.
    """
    if not set(outputs) <= set(answers):
        if len(answers) != len(outputs):
            raise ModelError(
                expected=f"a teacher with the student's outputs {', '.join(outputs)}",
                got=", ".join(answers) or "none",
                where="teacher",
            )
        answers = dict(zip(outputs, answers.values(), strict=True))
    for name, shape in outputs.items():
        if answers[name].shape != shape:
            raise ModelError(
                expected=f"{list(shape)} for output '{name}', as the student's",
                got=str(list(answers[name].shape)),
                where="teacher",
            )
    return {name: answers[name] for name in outputs}


def _require_inputs(teacher: Signature, student: Signature) -> None:
    """Raise ModelError unless the teacher takes what the student does, in any names."""
    same_names = {spec.name for spec in teacher.inputs} == {spec.name for spec in student.inputs}
    pairs = [
        (spec, teacher.input(spec.name) if same_names else other)
        for spec, other in zip(student.inputs, teacher.inputs, strict=False)
    ]
    fits = len(teacher.inputs) == len(student.inputs) and all(
        own.dtype == other.dtype
        and len(own.shape) == len(other.shape)
        and all(
            None in (a, b) or a == b for a, b in zip(own.shape[1:], other.shape[1:], strict=True)
        )
        for own, other in pairs
    )
    if not fits:
        raise ModelError(
            expected=f"a teacher that takes {', '.join(map(str, student.inputs))}",
            got=", ".join(map(str, teacher.inputs)) or "no input",
            where="teacher",
        )


def _arrays(outputs: Mapping[str, Any]) -> Arrays:
    return {name: np.asarray(cast("Any", value)) for name, value in outputs.items()}
