"""The peers' files: the demo's network through litert-torch and ai-edge-quantizer.

Run by litert.py in an environment of its own: litert_peers.py IMAGES.npy OUT. IMAGES holds
calibration images, float32 [n, 3, 224, 224]. For images as PyTorch has them (nchw) and with their
channels last (nhwc) a float and a static int8 file are written.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["main"]

_LAYOUTS = {"nchw": (0, 1, 2, 3), "nhwc": (0, 2, 3, 1)}


def main(images: Path, out: Path) -> None:
    """Convert and quantize for both layouts."""
    import litert_torch
    import torch

    from hasten.demo.network import lite0

    calibration = np.load(images)
    for layout, order in _LAYOUTS.items():
        network: Any = lite0()
        if layout == "nhwc":
            network = litert_torch.to_channel_last_io(network, args=[0]).eval()
        moved = np.ascontiguousarray(calibration.transpose(order))
        example = (torch.from_numpy(moved[:1].copy()),)
        path = out / f"peer-float-{layout}.tflite"
        litert_torch.convert(network, example).export(str(path))
        quantize(path, moved, out / f"peer-int8-{layout}.tflite")


def quantize(path: Path, images: np.ndarray, out: Path) -> None:
    """Static int8 with the quantizer's own recipe."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    runner = Interpreter(str(path)).get_signature_list()
    ((signature, names),) = runner.items()

    feeds = [{names["inputs"][0]: image[None]} for image in images]
    work = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
    seen = work.calibrate({signature: feeds})
    work.quantize(seen).export_model(str(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
