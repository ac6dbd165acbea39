"""The MLP in BentoML: its own JSON, a batchable API."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
import numpy.typing as npt

from mlp_session import BATCH, PORT, Session

__all__ = ["Mlp"]


@bentoml.service(workers=1)
class Mlp:
    """BentoML's service around the session."""

    def __init__(self) -> None:
        self._session = Session()

    @bentoml.api(batchable=True, max_batch_size=BATCH)
    def predict(self, x: np.ndarray) -> np.ndarray:
        """Run what the dispatcher has gathered."""
        rows: npt.NDArray[np.float32] = np.asarray(x, np.float32)
        return self._session.run(rows)


def main() -> None:
    """Become ``bentoml serve``."""
    program = str(Path(sys.executable).with_name("bentoml"))
    folder = str(Path(__file__).parent)
    where = ("--working-dir", folder, "--host", "127.0.0.1", "--port", str(PORT))
    os.execv(program, [program, "serve", "serve_bentoml:Mlp", *where])  # noqa: S606


if __name__ == "__main__":
    main()
