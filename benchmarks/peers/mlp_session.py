"""The session that every peer serves: one thread, and none that spins beside the client."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["BATCH", "GATHER_US", "MODEL", "PORT", "Rows", "Session"]

Rows = npt.NDArray[np.float32]

#: What the benchmark wants served, and where.
MODEL = os.environ["PEER_MODEL"]
PORT = int(os.environ["PEER_PORT"])
#: Rows that a peer's batcher may take at once: as many as there are connections.
BATCH = 32
#: How long its batcher waits for more.
GATHER_US = int(os.environ["PEER_GATHER_US"])


class Session:
    """ONNX Runtime on rows of ``x``, float32 [n, 64], giving ``y``, float32 [n, 10]."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session: Any = onnxruntime.InferenceSession(
            MODEL, options, providers=["CPUExecutionProvider"]
        )

    def run(self, rows: Rows) -> Rows:
        """Run one batch."""
        outputs: list[Rows] = self._session.run(["y"], {"x": rows})
        return outputs[0]
