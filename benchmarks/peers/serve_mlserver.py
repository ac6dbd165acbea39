"""The MLP in MLServer: V2 JSON, adaptive batching on, inference in the server's own process."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from mlp_session import BATCH, GATHER_US, PORT, Session

__all__ = ["Mlp"]


class Mlp(MLModel):
    """MLServer's runtime around the session."""

    async def load(self) -> bool:
        """Open the session."""
        self._session = Session()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Run what the batcher has gathered."""
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("y", self._session.run(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])


def main() -> None:
    """Become ``mlserver start`` with settings in a folder of its own."""
    folder = Path(tempfile.mkdtemp())
    server = {
        "host": "127.0.0.1",
        "http_port": PORT,
        "grpc_port": 0,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
        "use_structured_logging": False,
    }
    model = {
        "name": "mlp",
        "implementation": "serve_mlserver.Mlp",
        "max_batch_size": BATCH,
        "max_batch_time": GATHER_US / 1e6,
    }
    (folder / "settings.json").write_text(json.dumps(server), encoding="utf-8")
    (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    program = str(Path(sys.executable).with_name("mlserver"))
    os.execv(program, [program, "start", str(folder)])  # noqa: S606


if __name__ == "__main__":
    main()
