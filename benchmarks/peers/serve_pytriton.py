"""The MLP in Triton through nvidia-pytriton: V2 with binary tensors, dynamic batching on."""

from __future__ import annotations

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

from mlp_session import BATCH, GATHER_US, PORT, Rows, Session

__all__ = ["main"]


def main() -> None:
    """Bind the session and serve until the end."""
    session = Session()

    @batch
    def infer(x: Rows) -> list[Rows]:
        return [session.run(x)]

    batcher = DynamicBatcher(max_queue_delay_microseconds=GATHER_US)
    config = TritonConfig(http_address="127.0.0.1", http_port=PORT, allow_grpc=False)
    with Triton(config=config) as triton:
        triton.bind(
            model_name="mlp",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(64,))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(10,))],
            config=ModelConfig(max_batch_size=BATCH, batcher=batcher),
        )
        triton.serve()


if __name__ == "__main__":
    main()
