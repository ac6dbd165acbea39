"""Worker processes, what /proc says of them, and candidates that they open."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from hasten.data import Samples
from hasten.graph import Model, Signature, TensorSpec, TorchSource, model_from_proto
from hasten.runtimes import Execution, Lowered, get_runtime
from hasten.worker.process import Worker
from hasten.worker.protocol import Opened
from onnx_models import linear

#: More than a process needs to start, far less than anyone waits for a hang.
LIMIT_S = 60.0
SIGNATURE = Signature((TensorSpec("x", "float32", (None, 4)),), (TensorSpec("y", "float32", ()),))


def null_model(**behaviour: object) -> Model:
    """x[n,4] to zeros y[n,3], at the cost and with the failures that are named."""
    proto = linear()
    helper.set_model_props(proto, {f"hasten.null.{k}": str(v) for k, v in behaviour.items()})
    return model_from_proto(proto, "null")


def lowered(runtime: str, proto: onnx.ModelProto | Model, folder: Path) -> Lowered:
    model = proto if isinstance(proto, Model) else model_from_proto(proto, "net")
    return get_runtime(runtime).lower(model, folder)


def saved_samples(folder: Path, count: int = 5) -> Path:
    """Samples for x[n,4], each row of its own value."""
    rows = np.arange(count, dtype=np.float32)[:, None] * np.ones(4, np.float32)
    Samples({"x": rows}).save(folder)
    return folder


def open_null(
    worker: Worker,
    folder: Path,
    *,
    limit_s: float = LIMIT_S,
    execution: Execution | None = None,
    **behaviour: object,
) -> Opened:
    """Open a null candidate with these ways."""
    samples = saved_samples(folder / "samples")
    candidate = lowered("null", null_model(**behaviour), folder)
    return worker.open("null", candidate, execution or Execution(), samples, limit_s)


def begin_null(worker: Worker, folder: Path, **behaviour: object) -> None:
    candidate = lowered("null", null_model(**behaviour), folder)
    worker.begin_open("null", candidate, Execution(), saved_samples(folder / "samples"))


def open_module(
    worker: Worker, folder: Path, code: str, execution: Execution | None = None
) -> None:
    """Open a PyTorch candidate whose ``forward`` has this body, in the module ``ways``."""
    module = f"import torch\nclass Net(torch.nn.Module):\n    def forward(self, x):\n{code}\n"
    (folder / "ways.py").write_text(module)
    source = TorchSource("ways:Net", ("x",), ("y",))
    candidate = Lowered("", "pt2", SIGNATURE, source)
    samples = saved_samples(folder / "samples")
    worker.open("pytorch", candidate, execution or Execution(), samples, LIMIT_S)


def children() -> set[int]:
    """Processes whose parent is this one, zombies among them."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    return {int(pid) for one in listed for pid in one.read_text().split()}


def pid_of(worker_of: Callable[[], Worker]) -> tuple[Worker, int]:
    before = children()
    worker = worker_of()
    (pid,) = children() - before
    return worker, pid


def state_of(pid: int) -> str:
    """State letter in /proc/<pid>/stat; empty when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def wait_until(holds: Callable[[], bool], limit_s: float = 10.0) -> bool:
    until = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
