"""Networks whose channels hang together in every way that pruning has to know."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from hasten.graph import Model, load, model_from_proto, parse_input
from onnx_models import model, value, weight

SIDE = 8


class Residual(nn.Module):
    """Two residual blocks, the second with a projection, as in ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.one = nn.Conv2d(16, 24, 3, padding=1)
        self.two = nn.Conv2d(24, 16, 3, padding=1)
        self.three = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.shortcut = nn.Conv2d(16, 32, 1, stride=2)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.two(torch.relu(self.one(x))))
        x = torch.relu(self.three(x) + self.shortcut(x))
        found: torch.Tensor = self.head(x.mean((2, 3)))
        return found


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, squeeze and excitation, projection, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.expand = nn.Conv2d(16, 48, 1)
        self.depthwise = nn.Conv2d(48, 48, 3, padding=1, groups=48)
        self.squeeze = nn.Conv2d(48, 12, 1)
        self.excite = nn.Conv2d(12, 48, 1)
        self.project = nn.Conv2d(48, 16, 1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.hardswish(self.stem(x))
        y = nn.functional.relu6(self.depthwise(nn.functional.relu6(self.expand(x))))
        gate = torch.relu(self.squeeze(nn.functional.adaptive_avg_pool2d(y, 1)))
        x = x + self.project(y * torch.sigmoid(self.excite(gate)))
        found: torch.Tensor = self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return found


class Dense(nn.Module):
    """Each convolution reads what all before it gave, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 16, 3, padding=1)
        self.two = nn.Conv2d(16, 24, 3, padding=1)
        self.three = nn.Conv2d(40, 8, 3, padding=1)
        self.head = nn.Linear(48, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.one(x))
        x = torch.cat([x, torch.relu(self.two(x))], 1)
        x = torch.cat([x, torch.relu(self.three(x))], 1)
        found: torch.Tensor = self.head(x.mean((2, 3)))
        return found


class Flattened(nn.Module):
    """Four values of each channel are features of a linear layer, as in VGG."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 16, 3, padding=1)
        self.hidden = nn.Linear(16 * 4, 24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.one(x)), SIDE // 2).flatten(1)
        found: torch.Tensor = self.head(torch.relu(self.hidden(x)))
        return found


class Grouped(nn.Module):
    """A convolution with four groups, as in ResNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.grouped = nn.Conv2d(16, 32, 3, padding=1, groups=4)
        self.last = nn.Conv2d(32, 8, 1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.grouped(torch.relu(self.stem(x))))
        found: torch.Tensor = self.head(torch.relu(self.last(x)).mean((2, 3)))
        return found


class Attention(nn.Module):
    """Four heads of eight channels over sixteen tokens, and a gated feed-forward layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(12, 32)
        self.qkv = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))
        self.out = nn.Linear(32, 32)
        self.up = nn.Linear(32, 64)
        self.down = nn.Linear(32, 32)
        self.head = nn.Linear(32, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.reshape(-1, 16, 12))
        q, k, v = (one(x).reshape(-1, 16, 4, 8).transpose(1, 2) for one in self.qkv)
        mixed = torch.softmax(q @ k.transpose(2, 3), -1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(-1, 16, 32))
        value, gate = self.up(x).chunk(2, -1)
        x = x + self.down(value * torch.sigmoid(gate))
        found: torch.Tensor = self.head(x.mean(1))
        return found


MODULES: dict[str, Callable[[], nn.Module]] = {
    "residual": Residual,
    "inverted residual": InvertedResidual,
    "dense": Dense,
    "flattened": Flattened,
    "grouped": Grouped,
    "attention": Attention,
}


@cache
def exported(name: str) -> tuple[nn.Module, Model]:
    """Return one of the networks, with weights of one seed, and its graph."""
    torch.manual_seed(0)
    module = MODULES[name]().eval()
    inputs = [parse_input(f"x=float32[batch,3,{SIDE},{SIDE}]")]
    with TemporaryDirectory() as folder:
        found = load(module, inputs=inputs, scratch=Path(folder))
    return module, Model(name, found.content, found.signature)


def images(count: int = 2) -> dict[str, np.ndarray]:
    shape = (count, 3, SIDE, SIDE)
    return {"x": np.random.default_rng(3).normal(size=shape).astype(np.float32)}


def net(
    nodes: list[onnx.NodeProto], out: list[Any], weights: list[onnx.TensorProto], inputs: int = 3
) -> Model:
    """x[n,inputs,8,8] through these nodes to y."""
    proto = model(nodes, [value("x", ["n", inputs, SIDE, SIDE])], [value("y", out)], weights)
    return model_from_proto(proto, "net")


def normalised() -> Model:
    """A batch norm that was not folded, between two convolutions."""
    parameters = [
        numpy_helper.from_array(
            np.abs(np.random.default_rng(seed).normal(size=16)).astype(np.float32) + 0.1, name
        )
        for seed, name in enumerate(("scale", "shift", "mean", "variance"))
    ]
    return net(
        [
            helper.make_node("Conv", ["x", "w1"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", ["c", *[one.name for one in parameters]], ["b"]),
            helper.make_node("Relu", ["b"], ["r"]),
            helper.make_node("Conv", ["r", "w2"], ["y"]),
        ],
        ["n", 4, SIDE, SIDE],
        [weight("w1", 16, 3, 3, 3), *parameters, weight("w2", 4, 16, 1, 1)],
    )


def branched() -> Model:
    """A convolution split in three parts, of which the middle is shared and shuffled back."""
    sizes = numpy_helper.from_array(np.array([8, 16, 8]), "sizes")
    return net(
        [
            helper.make_node("Conv", ["x", "w1", "b1"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Split", ["c", "sizes"], ["p", "q", "r"], axis=1),
            helper.make_node("Mul", ["p", "r"], ["m"]),
            helper.make_node("Concat", ["q", "m"], ["j"], axis=1),
            helper.make_node("ConvTranspose", ["j", "w2"], ["t"], strides=[2, 2]),
            helper.make_node("PRelu", ["t", "slope"], ["a"]),
            helper.make_node("Conv", ["a", "w3"], ["y"]),
        ],
        ["n", 2, None, None],
        [
            weight("w1", 32, 3, 3, 3),
            weight("b1", 32, seed=1),
            sizes,
            weight("w2", 24, 12, 2, 2, seed=2),
            weight("slope", 12, 1, 1, seed=3),
            weight("w3", 2, 12, 1, 1, seed=4),
        ],
    )


def multiplied() -> Model:
    """A depthwise convolution that makes two channels of each, and one transposed."""
    return net(
        [
            helper.make_node("Conv", ["x", "w1"], ["a"]),
            helper.make_node("Conv", ["a", "w2", "b2"], ["b"], group=8),
            helper.make_node("ConvTranspose", ["b", "w3"], ["c"], group=16),
            helper.make_node("Conv", ["c", "w4"], ["y"]),
        ],
        ["n", 2, None, None],
        [
            weight("w1", 8, 3, 1, 1),
            weight("w2", 16, 1, 3, 3, seed=1),
            weight("b2", 16, seed=2),
            weight("w3", 16, 1, 3, 3, seed=3),
            weight("w4", 2, 16, 1, 1, seed=4),
        ],
    )


def resized() -> Model:
    """Sizes that name the channels: a resize, an expanded bias, and padding around."""
    return net(
        [
            helper.make_node("Conv", ["x", "w1"], ["c"]),
            helper.make_node("Resize", ["c", "", "", "sizes"], ["r"], mode="nearest"),
            helper.make_node("Expand", ["b", "dims"], ["e"]),
            helper.make_node("Add", ["r", "e"], ["s"]),
            helper.make_node("Pad", ["s", "pads"], ["p"]),
            helper.make_node("Conv", ["p", "w2"], ["y"]),
        ],
        [1, 4, 18, 18],
        [
            weight("w1", 16, 3, 1, 1),
            numpy_helper.from_array(np.array([1, 16, 16, 16]), "sizes"),
            weight("b", 16, 1, 1, seed=1),
            numpy_helper.from_array(np.array([1, 16, 16, 16]), "dims"),
            numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"),
            weight("w2", 4, 16, 1, 1, seed=2),
        ],
    )


def unknown(kind: str = "DepthToSpace", **attributes: Any) -> Model:
    """An operator between two convolutions that pruning does not follow."""
    return net(
        [
            helper.make_node("Conv", ["x", "w1"], ["c"]),
            helper.make_node(kind, ["c"], ["d"], name="odd", **(attributes or {"blocksize": 2})),
            helper.make_node("Conv", ["d", "w2"], ["y"]),
        ],
        ["n", 2, None, None],
        [weight("w1", 32, 3, 1, 1), weight("w2", 2, 8, 1, 1)],
    )


HANDMADE: dict[str, Callable[[], Model]] = {
    "normalised": normalised,
    "branched": branched,
    "multiplied": multiplied,
    "resized": resized,
}
