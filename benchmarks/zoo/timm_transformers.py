"""Transformers and other token mixers of timm: few blocks each, with all that is in one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from zoo.architecture import Architecture
from zoo.inputs import images
from zoo.timm_convnets import CLASSES, timm_model

if TYPE_CHECKING:
    from torch import nn

__all__ = ["TRANSFORMERS"]


def _mixer(name: str, size: int = 64, **changes: Any) -> Architecture:
    build = partial(timm_model, name, **changes)
    return Architecture(name, "timm", "class scores", build, images(size))


def _mlp(block: str, layer: str) -> nn.Module:
    """Build one of the perceptrons on patches; timm's builders fix how deep they are."""
    from timm import layers
    from timm.models import mlp_mixer

    made: nn.Module = mlp_mixer.MlpMixer(
        num_classes=CLASSES,
        img_size=64,
        embed_dim=128,
        num_blocks=3,
        mlp_ratio=(0.5, 4.0) if block == "MixerBlock" else 4,
        block_layer=getattr(mlp_mixer, block),
        mlp_layer=getattr(layers, layer),
    )
    return made


_SWIN: dict[str, Any] = {"embed_dim": 32, "depths": (2, 2), "num_heads": (2, 4), "img_size": 64}

TRANSFORMERS = (
    _mixer("vit_tiny_patch16_224", img_size=64, depth=3),
    _mixer("beit_base_patch16_224", img_size=64, embed_dim=96, depth=3, num_heads=3),
    _mixer("cait_xxs24_224", img_size=64, depth=3),
    _mixer("xcit_nano_12_p16_224", img_size=64, depth=3),
    _mixer("convit_tiny", img_size=64, depth=3, local_up_to_layer=2),
    _mixer("swin_tiny_patch4_window7_224", window_size=4, **_SWIN),
    _mixer("levit_128s", img_size=64),
    _mixer("efficientvit_b0"),
    _mixer("mobilevit_xxs"),
    _mixer("poolformer_s12"),
    Architecture("mixer", "timm", "class scores", partial(_mlp, "MixerBlock", "Mlp"), images(64)),
    Architecture(
        "gmlp", "timm", "class scores", partial(_mlp, "SpatialGatingBlock", "GatedMlp"), images(64)
    ),
    _mixer("coat_lite_tiny", img_size=64),
    _mixer("maxvit_rmlp_pico_rw_256", img_size=64),
    _mixer("sequencer2d_s", img_size=64, layers=(1, 1, 1, 1), embed_dims=(48, 96, 96, 96)),
)
