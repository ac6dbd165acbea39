"""The MLP in Ray Serve: its own JSON, ``@serve.batch``."""

from __future__ import annotations

from typing import Any

import numpy as np
import ray
from ray import serve
from starlette.requests import Request

from mlp_session import BATCH, GATHER_US, PORT, Session

__all__ = ["Mlp"]


@serve.deployment(max_ongoing_requests=4 * BATCH)
class Mlp:
    """Ray's deployment around the session."""

    def __init__(self) -> None:
        self._session = Session()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=GATHER_US / 1e6)
    async def run(self, rows: list[list[float]]) -> list[list[float]]:
        """Run what was gathered."""
        answers: list[list[float]] = self._session.run(np.array(rows, np.float32)).tolist()
        return answers

    async def __call__(self, request: Request) -> dict[str, list[float]]:
        """Answer one row."""
        document = await request.json()
        return {"y": await self.run(document["x"])}


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    deployment: Any = Mlp
    serve.run(deployment.bind(), blocking=True)
