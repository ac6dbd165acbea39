"""The MLP in LitServe: its own JSON, batching on."""

from __future__ import annotations

from collections.abc import Sequence

import litserve
import numpy as np

from mlp_session import BATCH, GATHER_US, PORT, Rows, Session

__all__ = ["Mlp"]


class Mlp(litserve.LitAPI):
    """LitServe's steps around the session."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Open the session."""
        self._session = Session()

    def decode_request(self, request: dict[str, list[float]]) -> Rows:
        """Return one row."""
        return np.array(request["x"], np.float32)

    def batch(self, inputs: Sequence[Rows]) -> Rows:
        """Join rows."""
        return np.stack(inputs)

    def predict(self, x: Rows) -> Rows:
        """Run a batch."""
        return self._session.run(x)

    def unbatch(self, output: Rows) -> list[Rows]:
        """Part a batch's answers."""
        return list(output)

    def encode_response(self, output: Rows) -> dict[str, list[float]]:
        """Return the answer's JSON."""
        return {"y": output.tolist()}


if __name__ == "__main__":
    api = Mlp(max_batch_size=BATCH, batch_timeout=GATHER_US / 1e6)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1",
        port=PORT,
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
