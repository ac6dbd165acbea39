"""Cleaning in a worker process: onnxslim runs constants, and the outputs are run for comparison."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hasten.errors import RefusedError
from hasten.graph import Arrays, Model, all_nodes, clean
from hasten.runtimes import Execution, get_runtime
from hasten.worker.limits import let_grow, slim_limit_s
from hasten.worker.process import Worker
from hasten.worker.protocol import Clean, Cleaned
from hasten.worker.shared_arrays import SharedMemory, new_memory

__all__ = ["clean_file", "cleaned"]


def cleaned(model: Model, feed: Arrays, scratch: Path, *, keep_batch_norms: bool = False) -> Model:
    """Return the same model with less in it, see ``hasten.graph.clean``.

    ``feed`` is what outputs are compared on. Raises RefusedError where it cannot be cleaned,
    RuntimeFailureError where ONNX Runtime does not run it, or crashes.
    """
    import onnx

    scratch.mkdir(parents=True, exist_ok=True)
    descriptor = new_memory(scratch)
    try:
        places = SharedMemory(descriptor).write(dict(feed))
        with (
            TemporaryDirectory(dir=scratch, prefix="clean-") as folder,
            Worker(scratch, shared=(descriptor,)) as worker,
        ):
            before, after = Path(folder, "before.onnx"), Path(folder, "after.onnx")
            before.write_bytes(model.payload)
            request = Clean(
                name=model.name,
                signature=model.signature,
                model=str(before),
                out=str(after),
                keep_batch_norms=keep_batch_norms,
                feed=places,
                source=descriptor,
            )
            worker.begin(request)
            nodes = sum(1 for _ in all_nodes(model.graph))
            limit_s = slim_limit_s(len(model.payload), nodes)
            refusal = worker.answer(Cleaned, limit_s, f"cleaning {model.name}").refusal
            if refusal:
                raise RefusedError(refusal)
            return replace(model, content=onnx.load_model_from_string(after.read_bytes()))
    finally:
        os.close(descriptor)


def clean_file(request: Clean, feed: Arrays) -> str:
    """Clean the graph in a file as a worker is asked to; return why it refuses, empty if not."""
    import numpy as np
    import onnx

    let_grow(os.path.getsize(request.model), sum(array.nbytes for array in feed.values()))
    graph = onnx.load_model(request.model, load_external_data=False)
    model = Model(request.name, graph, request.signature)
    runtime = get_runtime("onnxruntime")

    def run(one: Model, values: Arrays) -> Arrays:
        folder = Path(request.out).parent
        session = runtime.open(runtime.lower(one, folder), Execution())
        try:
            return {name: np.asarray(value) for name, value in session.run(dict(values)).items()}
        finally:
            session.close()

    try:
        made = clean(model, run, feed, keep_batch_norms=request.keep_batch_norms)
    except RefusedError as refused:
        return str(refused)
    Path(request.out).write_bytes(made.payload)
    return ""
