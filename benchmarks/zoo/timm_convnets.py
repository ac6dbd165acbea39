"""Convolutional networks of timm, in their smallest variants."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.architecture import Architecture
from zoo.inputs import images

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CLASSES", "CONVNETS", "timm_model"]

CLASSES = 20


def timm_model(name: str, **changes: Any) -> nn.Module:
    """Build a model of timm with random weights; ``changes`` are arguments of its class."""
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=CLASSES, **changes)
    return model


def _convnet(name: str, size: int = 64, **changes: Any) -> Architecture:
    build = partial(timm_model, name, **changes)
    return Architecture(name, "timm", "class scores", build, images(size))


#: Four blocks instead of 16, with all that is in one.
_SHALLOW = (1, 1, 1, 1)

CONVNETS = (
    _convnet("resnet18"),
    _convnet("resnetv2_18"),
    _convnet("skresnet18"),
    _convnet("resnest14d"),
    _convnet("res2net50_26w_4s", layers=_SHALLOW),
    _convnet("nf_resnet26"),
    _convnet("mobilenetv2_035"),
    _convnet("mobilenetv3_small_050"),
    _convnet("efficientnet_lite0"),
    _convnet("efficientnet_b0"),
    _convnet("mixnet_s"),
    _convnet("regnety_002"),
    _convnet("densenet121"),
    _convnet("ghostnet_050"),
    _convnet("repvgg_a0"),
    _convnet("fastvit_t8"),
    _convnet("convnext_atto"),
    _convnet("convnextv2_atto"),
    _convnet("edgenext_xx_small"),
    _convnet("dla46_c"),
    _convnet("hrnet_w18_small"),
    _convnet("ese_vovnet19b_slim_dw"),
    _convnet("cs3darknet_s"),
    _convnet("inception_v3", 96, aux_logits=False),
    _convnet("starnet_s050"),
)
