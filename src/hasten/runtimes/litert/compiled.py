"""LiteRT's CompiledModel: a whole model on the GPU, or several instances that share weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from hasten.errors import RuntimeFailureError
from hasten.runtimes.litert.gpu_log import failure_of
from hasten.runtimes.litert.native_log import native_log
from hasten.runtimes.litert.placement import located_whole
from hasten.runtimes.litert.weight_cache import weight_cache
from hasten.runtimes.placement import Placement
from hasten.runtimes.runtime import Arrays, Execution, Lowered
from hasten.runtimes.vendor import reported

if TYPE_CHECKING:
    from ai_edge_litert.compiled_model import CompiledModel, Options, TensorBuffer

__all__ = ["CompiledSession", "open_compiled"]

_RUNNING = reported("litert could not run")
_COMPILING = "litert could not compile"


def open_compiled(lowered: Lowered, execution: Execution) -> CompiledSession:
    """Compile; a GPU runs the whole model or none of it. Raises RuntimeFailureError in one line."""
    on_gpu = execution.device == "gpu"
    if execution.device not in {"cpu", "gpu"}:
        raise RuntimeFailureError(f"{_COMPILING}: it runs nothing on device {execution.device}")
    if execution.delegate:
        raise RuntimeFailureError(f"{_COMPILING}: a delegate runs on device cpu only")
    with reported(_COMPILING):
        if on_gpu:
            with _explained():
                model = _compile(lowered, _gpu_options(execution))
            # One message names what is missing; a part on the processor would hide it.
            placement = located_whole(lowered.path, "GPU", lowered.nodes)
        else:
            with weight_cache(lowered.path) as cache:
                model = _compile(lowered, _cpu_options(execution, cache))
            placement = _located_on_cpu(lowered, execution)
        return CompiledSession(model, lowered, placement)


class CompiledSession:
    """One compiled model with buffers of its own; free dimensions take the shape of each feed."""

    def __init__(self, model: CompiledModel, lowered: Lowered, placement: Placement) -> None:
        self._model = model
        self._placement = placement
        signature = model.get_signature_by_index(0)
        key = next(iter(model.get_signature_list()))
        specs = lowered.signature
        self._inputs = _order(
            [spec.name for spec in specs.inputs],
            signature["inputs"],
            model.get_input_tensor_details(key),
        )
        self._outputs = _order(
            [spec.name for spec in specs.outputs],
            signature["outputs"],
            model.get_output_tensor_details(key),
        )
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._buffers: tuple[list[TensorBuffer], list[TensorBuffer]] = ([], [])

    def run(self, feed: Arrays) -> Arrays:
        """Run once and read the outputs: a GPU is done when they are here, and not before."""
        with _RUNNING:
            self._resize({name: feed[name].shape for name in self._inputs})
            inputs, outputs = self._buffers
            for name, at in self._inputs.items():
                inputs[at].write(feed[name])
            self._model.run_by_index(0, inputs, outputs)
            return {name: _read(outputs[at]) for name, at in self._outputs.items()}

    def _resize(self, shapes: dict[str, tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = {}  # until all is allocated anew, no feed fits
        for name, at in self._inputs.items():
            self._model.resize_input_tensor(at, list(shapes[name]))
        self._free()
        self._buffers = (
            self._model.create_input_buffers(0),
            self._model.create_output_buffers(0),
        )
        self._shapes = shapes

    def placement(self) -> Placement:
        """Return where every operator runs."""
        return self._placement

    def _free(self) -> None:
        for buffer in (*self._buffers[0], *self._buffers[1]):
            buffer.destroy()
        self._buffers = ([], [])

    def close(self) -> None:
        """Free buffers, then the model."""
        self._free()
        self._model.close()
        del self._model


def _compile(lowered: Lowered, options: Options) -> CompiledModel:
    from ai_edge_litert.compiled_model import CompiledModel

    return CompiledModel.from_file(lowered.path, options=options)


def _gpu_options(execution: Execution) -> Options:
    from ai_edge_litert.compiled_model import GpuOptions, HardwareAccelerator, Options

    exact = GpuOptions(enforce_f32=execution.hint == "f32")
    return Options(HardwareAccelerator.GPU, gpu_options=exact)


def _cpu_options(execution: Execution, cache: str) -> Options:
    from ai_edge_litert.compiled_model import CpuOptions, HardwareAccelerator, Options

    cpu = CpuOptions(num_threads=execution.threads, xnnpack_weight_cache_path=cache)
    return Options(HardwareAccelerator.CPU, cpu_options=cpu)


@contextmanager
def _explained() -> Iterator[None]:
    """Say of an error what the accelerator printed: the error itself names a line of LiteRT."""
    with native_log() as log:
        try:
            yield
        except RuntimeError as error:
            reason = failure_of(log())
            if not reason:
                raise
            raise RuntimeFailureError(f"{_COMPILING} for the GPU: {reason}") from error


def _located_on_cpu(lowered: Lowered, execution: Execution) -> Placement:
    """Where an interpreter with the same delegate runs this file: CompiledModel does not tell."""
    from hasten.runtimes.litert.interpreter import open_interpreter

    session = open_interpreter(lowered, Execution(threads=execution.threads))
    try:
        return session.placement()
    finally:
        session.close()


def _order(
    wanted: list[str], names: list[str], details: dict[str, dict[str, Any]]
) -> dict[str, int]:
    """By tensor, its place in the file's signature, which may call it by another name."""
    found: dict[str, int] = {}
    for name in wanted:
        places = [at for at, one in enumerate(names) if name in (one, details[one]["name"])]
        if not places:
            raise RuntimeFailureError(f"{_COMPILING}: its signature has no tensor {name}")
        found[name] = places[0]
    return found


def _read(buffer: TensorBuffer) -> np.ndarray:
    details = buffer.get_tensor_details()
    shape = tuple(details["shape"])
    flat = buffer.read(int(np.prod(shape, dtype=np.int64)), np.dtype(details["dtype"]))
    return np.asarray(flat.reshape(shape))
