"""Networks of torchvision and segmentation-models-pytorch: masks, boxes and films among them."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from zoo.architecture import Architecture
from zoo.inputs import clips, images

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TORCHVISION", "define_operators"]

_CLASSES = 20
#: What importing torchvision looks up among the operators of its own library.
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_defined: list[torch.library.Library] = []


def define_operators() -> None:
    """Make torchvision from PyPI importable beside a torch for CPUs, which cannot load its library.

    None of the architectures here runs one of its operators.
    """
    if torch.version.cuda is None and not _defined and importlib.util.find_spec("torchvision"):
        library = torch.library.Library("torchvision", "DEF")
        for schema in _OPERATORS:
            library.define(schema)
        _defined.append(library)


def _classifier(name: str, **changes: Any) -> nn.Module:
    from torchvision import models

    model: nn.Module = models.get_model(name, weights=None, num_classes=_CLASSES, **changes)
    return model


def _segmenter(name: str) -> nn.Module:
    return _classifier(name, weights_backbone=None)


def _raw_detector() -> nn.Module:
    """SSDLite before its boxes are decoded and suppressed, as detectors are exported for CPUs."""
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    whole = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=_CLASSES)

    class Raw(torch.nn.Module):
        """Backbone and head."""

        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = whole.backbone, whole.head

        def forward(self, x: torch.Tensor) -> Any:
            """Return offsets of boxes and scores of classes, by anchor."""
            return self.head(list(self.backbone(x).values()))

    return Raw()


def _unet() -> nn.Module:
    import segmentation_models_pytorch as smp

    model: nn.Module = smp.Unet(
        "timm-mobilenetv3_small_minimal_100",
        encoder_weights=None,
        classes=5,
        decoder_channels=(64, 32, 32, 16, 16),
    )
    return model


def _vision(
    name: str, build: partial[nn.Module] | Any, gives: str = "class scores", size: int = 64
) -> Architecture:
    return Architecture(name, "torchvision", gives, build, images(size))


TORCHVISION = (
    _vision("googlenet", partial(_classifier, "googlenet", aux_logits=False, init_weights=False)),
    _vision("squeezenet1_1", partial(_classifier, "squeezenet1_1")),
    _vision("shufflenet_v2_x0_5", partial(_classifier, "shufflenet_v2_x0_5")),
    Architecture(
        "lraspp_mobilenet_v3_large",
        "torchvision",
        "masks",
        partial(_segmenter, "lraspp_mobilenet_v3_large"),
        images(64, name="input"),
    ),
    _vision(
        "deeplabv3_mobilenet_v3_large", partial(_segmenter, "deeplabv3_mobilenet_v3_large"), "masks"
    ),
    _vision("ssdlite_mobilenet_v3_large", _raw_detector, "boxes and scores", 96),
    Architecture(
        "mc3_18", "torchvision", "class scores", partial(_classifier, "mc3_18"), clips(4, 32)
    ),
    Architecture("unet_mobilenet_v3", "smp", "masks", _unet, images(64)),
)
