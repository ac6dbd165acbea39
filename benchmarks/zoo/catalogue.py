"""All architectures of the zoo, by name."""

from __future__ import annotations

from zoo.architecture import Architecture
from zoo.timm_convnets import CONVNETS
from zoo.timm_transformers import TRANSFORMERS
from zoo.torchvision_models import TORCHVISION
from zoo.transformers_senses import SENSES
from zoo.transformers_text import TEXT

__all__ = ["ARCHITECTURES"]

ARCHITECTURES: dict[str, Architecture] = {
    each.name: each for each in (*CONVNETS, *TRANSFORMERS, *TORCHVISION, *TEXT, *SENSES)
}
