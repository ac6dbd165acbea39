"""A small MobileNetV3 trained on the demo's images: hard-swish, squeeze-and-excite, residuals.

Trained once for each seed, in some minutes on two cores; the weights are kept in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hasten.cache_folder import cache_folder
from hasten.data import Preprocessing, Samples, load_samples
from hasten.demo.build import HELD_OUT, TRAINING, build_demo
from hasten.graph import Arrays, Model, Signature, TensorSpec, clean, load, parse_input
from hasten.progress import Quiet
from hasten.runtimes import Execution, get_runtime

__all__ = ["SIDE", "Trained", "mobile_net", "trained"]

#: Pixels along each side of the gray images.
SIDE = 128
_PREPROCESSING = Preprocessing((SIDE, SIDE), mean=(0.5,), std=(0.25,), colour="gray")
_EPOCHS = 24
_BATCH = 32
_RATE = 3e-3
#: Of each block: kernel, width inside, width out, squeeze-and-excite, hard-swish, stride.
_BLOCKS = (
    (3, 16, 16, True, False, 2),
    (3, 72, 24, False, False, 2),
    (3, 88, 24, False, False, 1),
    (5, 96, 40, True, True, 2),
    (5, 200, 40, True, True, 1),
    (5, 200, 40, True, True, 1),
    (5, 144, 48, True, True, 1),
    (5, 288, 96, True, True, 2),
)
_STEM, _HEAD, _HIDDEN = 16, 384, 128


class Gate(nn.Module):
    """Squeeze-and-excite: each channel times what the mean of all channels makes of it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width, max(8, width // 4), 1)
        self.excite = nn.Conv2d(max(8, width // 4), width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale [n, c, h, w]."""
        mean = x.mean((2, 3), keepdim=True)
        gate = self.excite(nn.functional.relu(self.squeeze(mean)))
        return x * nn.functional.hardsigmoid(gate)


def _convolution(
    taken: int, given: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    return [
        nn.Conv2d(taken, given, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(given),
    ]


class Inverted(nn.Module):
    """Expand, depthwise, gate, project; with a skip where shapes allow."""

    def __init__(self, taken: int, shape: tuple[int, int, int, bool, bool, int]) -> None:
        super().__init__()
        kernel, inside, given, gate, swish, stride = shape
        activation = nn.Hardswish if swish else nn.ReLU
        self.residual = stride == 1 and taken == given
        self.layers = nn.Sequential(
            *_convolution(taken, inside, 1),
            activation(),
            *_convolution(inside, inside, kernel, stride, inside),
            activation(),
            *([Gate(inside)] if gate else []),
            *_convolution(inside, given, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map [n, c, h, w] to [n, c', h / stride, w / stride]."""
        made: torch.Tensor = self.layers(x)
        return made + x if self.residual else made


def mobile_net() -> nn.Module:
    """The untrained network: [n, 1, 128, 128] to logits [n, 2]; 0.3 M parameters."""
    layers: list[nn.Module] = [*_convolution(1, _STEM, 3, 2), nn.Hardswish()]
    width = _STEM
    for shape in _BLOCKS:
        layers.append(Inverted(width, shape))
        width = shape[2]
    return nn.Sequential(
        *layers,
        *_convolution(width, _HEAD, 1),
        nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(_HEAD, _HIDDEN),
        nn.Hardswish(),
        nn.Linear(_HIDDEN, 2),
    )


class Trained(NamedTuple):
    """The exported graph, training images to calibrate with, and held-out ones."""

    model: Model
    calibration: Samples
    held_out: Samples


def trained(seed: int, scratch: Path, *, calibration: int = 128) -> Trained:
    """Train the network from this seed, or read its weights from the cache, and export it."""
    folder = build_demo(Quiet())
    signature = Signature((TensorSpec("image", "float32", (None, 1, SIDE, SIDE)),), ())
    read = {}
    for name in (TRAINING, HELD_OUT):
        (scratch / name).mkdir(parents=True, exist_ok=True)
        read[name] = load_samples(
            folder / name, signature, preprocessing=_PREPROCESSING, scratch=scratch / name
        )
    network = mobile_net()
    weights = cache_folder() / "benchmarks" / f"mobile_net_{SIDE}_{_EPOCHS}_{seed}.pt"
    if not weights.exists():
        network = _train(read[TRAINING], seed)
        weights.parent.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), weights)
    network.load_state_dict(torch.load(weights, weights_only=True))
    example = torch.zeros(1, 1, SIDE, SIDE)
    inputs = [parse_input(f"image=float32[batch,1,{SIDE},{SIDE}]")]
    exported = load(network.eval(), (example,), inputs=inputs, scratch=scratch)
    rows = np.random.default_rng(seed).permutation(len(read[TRAINING]))[:calibration]
    model = Model(f"mobile_net_{seed}", exported.content, exported.signature)
    feed, _ = next(read[HELD_OUT].batches(model.signature, 1))
    cleaned = clean(model, lambda one, arrays: _run(one, arrays, scratch), feed)
    return Trained(cleaned, read[TRAINING].select(rows), read[HELD_OUT])


def _run(model: Model, feed: Arrays, scratch: Path) -> Arrays:
    runtime = get_runtime("onnxruntime")
    session = runtime.open(runtime.lower(model, scratch), Execution())
    try:
        return {name: np.asarray(value) for name, value in session.run(dict(feed)).items()}
    finally:
        session.close()


def _train(samples: Samples, seed: int) -> nn.Module:
    """AdamW with a cosine schedule on cross entropy; images are flipped and turned at random."""
    torch.manual_seed(seed)
    network = mobile_net()
    images = torch.from_numpy(_PREPROCESSING.apply(samples.arrays["image"]))
    assert samples.labels is not None
    labels = torch.from_numpy(samples.labels.copy())
    steps = _EPOCHS * (len(images) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _RATE, total_steps=steps)
    network.train()
    for rows in _batches(len(images), steps):
        loss = nn.functional.cross_entropy(
            network(_turned(images[rows])), labels[rows], label_smoothing=0.1
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.eval()


def _batches(count: int, steps: int) -> Iterator[torch.Tensor]:
    """Yield rows: every epoch in a new order, its last few left out."""
    done = 0
    while done < steps:
        for rows in torch.randperm(count).split(_BATCH):
            if len(rows) == _BATCH and done < steps:
                yield rows
                done += 1


def _turned(images: torch.Tensor) -> torch.Tensor:
    """Flip along either axis or both: a solar cell has no up or down."""
    for axis in (2, 3):
        flip = torch.rand(len(images), 1, 1, 1) < 0.5
        images = torch.where(flip, images.flip(axis), images)
    return images
