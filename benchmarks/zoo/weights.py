"""Random weights under which every layer counts, as it does in a network that was trained.

Fresh networks are built to be trained, not to be judged. Last gains of residual branches are 0,
layer scales and class tokens 1e-6, projections of transformers 0.02: whole branches give nothing
that rounding could harm. Running statistics of fresh batch norms say nothing of the data, so that
activations grow or vanish from layer to layer. And fresh layers of batch norm and ReLU are chaotic:
each makes relative differences larger by 1.7 dB, so that after twenty of them the rounding of the
input alone is as large as the signal (Yang et al., "A Mean Field Theory of Batch Normalization",
ICLR 2019, arXiv 1902.08129). All of it is mended here, by a seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

__all__ = ["draw_idle", "re_estimate_batch_norms"]

#: Gains below this are layer scales, which begin next to nothing.
_IDLE = 0.2
#: Standard deviation of a matrix, times the root of what is summed up, below which it is idle.
_WEAK = 0.7
#: The size of tables: of words, and of what every sample is given alike, [1, ..., features]. Where
#: no LayerNorm is behind them, as in MobileBERT, biases would drown what samples tell.
_TABLE = 0.5
_VECTOR = 2
#: The bias behind a batch norm, in standard deviations of what it normalises: most of it gets
#: through a ReLU, which then makes differences larger by 0.7 dB.
_SHIFT, _SPREAD = 0.8, 0.3
_PRODUCTS = (nn.Linear, _ConvNd)


def draw_idle(module: nn.Module, seed: int) -> None:
    """Draw anew what a fresh network leaves at 0, at 1 or next to nothing.

    Gains of normalisations become 0.5 to 1.5, biases of batch norms normal(0.8, 0.3), other biases
    and zeros normal(0, 0.1), layer scales 0.2 to 0.6; weak matrices are scaled up to keep the
    variance of what they take, and tokens and tables of words and positions to 0.5, root mean
    square. What is not trained stays.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in module.modules():
            for name, value in part.named_parameters(recurse=False):
                if value.requires_grad and value.is_floating_point():
                    _draw(part, name, value, random)


def _draw(part: nn.Module, name: str, value: nn.Parameter, random: torch.Generator) -> None:
    constant = value.numel() > 1 and bool((value == value.flatten()[0]).all())
    if constant and "norm" in type(part).__name__.lower() and name == "weight":
        value.copy_(torch.rand(value.shape, generator=random) + 0.5)
    elif constant and isinstance(part, _BatchNorm) and name == "bias":
        value.copy_(_SHIFT + _SPREAD * torch.randn(value.shape, generator=random))
    elif constant and not value.any():
        value.copy_(0.1 * torch.randn(value.shape, generator=random))
    elif constant and float(value.abs().max()) < _IDLE:
        value.copy_(0.4 * torch.rand(value.shape, generator=random) + 0.2)
    elif isinstance(part, nn.Embedding) or (
        value.ndim > _VECTOR and len(value) == 1 and not isinstance(part, _PRODUCTS)
    ):
        size = float(value.square().mean().sqrt())
        if size < _IDLE:
            value.mul_(_TABLE / size)
    elif isinstance(part, _PRODUCTS) and name == "weight":
        scale = float(value.std()) * value[0].numel() ** 0.5
        if 0 < scale < _WEAK:
            value.div_(scale)


def re_estimate_batch_norms(
    module: nn.Module, batches: Sequence[Mapping[str, torch.Tensor]]
) -> None:
    """Give batch norms the statistics of these batches; all else stays in evaluation mode."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    momenta = [part.momentum for part in norms]
    module.eval()
    for part in norms:
        part.reset_running_stats()
        part.momentum = None  # the plain average over all batches
        part.train()
    with torch.no_grad():
        for batch in batches:
            module(**batch)
    for part, momentum in zip(norms, momenta, strict=True):
        part.momentum = momentum
    module.eval()
