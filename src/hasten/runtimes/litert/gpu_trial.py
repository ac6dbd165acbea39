"""A small model on the GPU, as a program: a driver that crashes or hangs ends this process alone.

Exit status 0 when the GPU's answer is right; the accelerator says on stderr which adapter it took.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from hasten.graph import Signature, TensorSpec
from hasten.runtimes.runtime import Execution, Lowered

__all__ = ["main"]

_SIZE = 64


def main() -> int:
    """Add a vector to itself on the GPU; returns the exit status."""
    from hasten.runtimes.litert.compiled import open_compiled
    from hasten.runtimes.litert.lowering.emission import emit_file
    from hasten.runtimes.litert.lowering.program import Operator, Program, Tensor

    kind = np.dtype(np.float32)
    x, y = Tensor("x", kind, (1, _SIZE)), Tensor("y", kind, (1, _SIZE))
    content = emit_file(Program([x], [y], [Operator("ADD", [x, x], [y])]))
    spec = TensorSpec("x", "float32", (1, _SIZE))
    signature = Signature((spec,), (TensorSpec("y", "float32", (1, _SIZE)),))
    with tempfile.TemporaryDirectory(prefix="hasten-") as folder:
        path = Path(folder) / "add.tflite"
        path.write_bytes(content)
        session = open_compiled(Lowered(str(path), "tflite", signature), Execution(device="gpu"))
        values = np.arange(_SIZE, dtype=np.float32).reshape(1, _SIZE)
        found = session.run({"x": values})["y"]
    if np.allclose(found, 2 * values, rtol=1e-2):
        return 0
    sys.stderr.write(f"ERROR: 63 + 63 came out as {found[0, -1]:g} on it\n")
    return 1


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # some drivers crash while the process is taken apart
