"""Networks of PyTorch, exported."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from hasten.graph import Model, load

__all__ = ["exported_conv_net", "exported_sequential"]


class ConvNet(nn.Module):
    """A convolution, its batch norm and a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return y


def exported_conv_net(scratch: Path) -> Model:
    torch.manual_seed(0)
    return load(ConvNet(), example=torch.zeros(2, 3, 8, 8), scratch=scratch)


def exported_sequential(scratch: Path) -> Model:
    """A module given in Python with an example of batch 1."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
    return load(net, torch.zeros(1, 3, 6, 6), scratch=scratch)
