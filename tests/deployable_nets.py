"""Small networks: one for each operator that is quantized, and each way of using weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as f

__all__ = ["NETS", "Net"]

Forward = Callable[..., torch.Tensor]


class Net(nn.Module):
    """Layers by name, and a function of them and the input that is the network."""

    def __init__(self, shape: tuple[int, ...], forward: Forward, **layers: Any) -> None:
        super().__init__()
        self.shape, self._forward = shape, forward
        for name, layer in layers.items():
            if isinstance(layer, nn.Parameter):
                self.register_parameter(name, layer)
            elif isinstance(layer, torch.Tensor):
                self.register_buffer(name, layer)
            else:
                self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._forward(self, x)


def images(forward: Forward, **layers: Any) -> Net:
    return Net((3, 8, 8), forward, **layers)


def tokens(forward: Forward, **layers: Any) -> Net:
    return Net((6, 8), forward, **layers)


def conv(inputs: int = 3, outputs: int = 8, kernel: int = 3, **settings: Any) -> Any:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **settings)


def normed(layer: nn.Module, shape: tuple[int, ...] = (3, 8, 8)) -> Net:
    """A layer with weights of its own before a convolution or a matrix product."""
    if len(shape) == 3:
        return Net(shape, lambda net, x: net.b(net.n(net.a(x))), a=conv(), n=layer, b=conv(8, 4, 1))
    return Net(
        shape, lambda net, x: net.b(net.n(net.a(x))), a=nn.Linear(8, 8), n=layer, b=nn.Linear(8, 4)
    )


def attention(net: Any, x: torch.Tensor) -> torch.Tensor:
    q, k, v = (one.unflatten(-1, (2, 4)).transpose(1, 2) for one in (net.q(x), net.k(x), net.v(x)))
    scores = q @ k.transpose(-1, -2) * 0.5
    if hasattr(net, "mask"):
        scores = scores + net.mask
    found: torch.Tensor = net.o((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    return found


def _attention(**more: Any) -> Net:
    layers = {name: nn.Linear(8, 8) for name in "qkvo"}
    return tokens(attention, **layers, **more)


def _embedding(net: Any, x: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = net.head(net.norm(net.words(x.abs().mul(3).long().clamp(max=9))))
    return found


def _language_model(net: Any, x: torch.Tensor) -> torch.Tensor:
    words = net.words(x.mean(-1).abs().mul(3).long().clamp(max=9))
    return f.linear(torch.relu(net.body(words)), net.words.weight)


def frozen(net: Net, *names: str) -> Net:
    for name in names:
        net.get_submodule(name).requires_grad_(False)
    return net


def _unfolded() -> Net:
    return images(
        lambda net, x: net.b(torch.relu(net.n(net.a(x) + x.mean(1, keepdim=True)))),
        a=conv(),
        n=nn.BatchNorm2d(8),
        b=conv(8, 4, 1),
    )


def _dead_channel() -> Net:
    """A channel of weights so small that int32 holds no bias in units of their scale."""
    dead = conv()
    with torch.no_grad():
        dead.weight[3] = 1e-12
        dead.bias[3] = 1.0
    return images(lambda net, x: net.b(net.a(x).relu()), a=dead, b=conv(8, 4))


def _standardised(net: Any, x: torch.Tensor) -> torch.Tensor:
    """A convolution whose weight is normalised whenever it is used, by a batch norm."""
    rows = net.a.weight.flatten(1)[None]
    weight = f.batch_norm(rows, None, None, net.gain, training=True, momentum=0.0)
    found: torch.Tensor = f.conv2d(x, weight.view_as(net.a.weight), net.a.bias, padding=1)
    return found


NETS: dict[str, Callable[[], Net]] = {
    # operators
    "conv": lambda: images(lambda net, x: net.a(x), a=conv(outputs=4)),
    "conv relu": lambda: images(lambda net, x: net.b(net.a(x).relu()), a=conv(), b=conv(8, 4)),
    "conv without bias": lambda: images(lambda net, x: net.a(x), a=conv(outputs=4, bias=False)),
    "conv1d": lambda: Net((3, 16), lambda net, x: net.a(x), a=nn.Conv1d(3, 4, 3, padding=1)),
    "relu6": lambda: images(lambda net, x: net.b(f.relu6(net.a(x) * 3)), a=conv(), b=conv(8, 4)),
    "depthwise": lambda: images(
        lambda net, x: net.b(net.a(x).relu()), a=conv(3, 6, groups=3), b=conv(6, 4, 1)
    ),
    "strided": lambda: images(lambda net, x: net.a(x), a=nn.Conv2d(3, 4, 3, stride=2, padding=1)),
    "dilated": lambda: images(lambda net, x: net.a(x), a=nn.Conv2d(3, 4, 3, dilation=2)),
    "deconvolution": lambda: images(
        lambda net, x: net.b(net.a(x)), a=nn.ConvTranspose2d(3, 8, 2, stride=2), b=conv(8, 4)
    ),
    "gemm": lambda: Net(
        (8,), lambda net, x: net.b(net.a(x).relu()), a=nn.Linear(8, 8), b=nn.Linear(8, 4)
    ),
    "linear on tokens": lambda: tokens(
        lambda net, x: net.b(net.a(x).relu()), a=nn.Linear(8, 8), b=nn.Linear(8, 4)
    ),
    "add": lambda: images(lambda net, x: net.a(x) + net.b(x), a=conv(), b=conv()),
    "mul": lambda: images(lambda net, x: net.a(x) * net.b(x), a=conv(), b=conv()),
    "sub": lambda: images(
        lambda net, x: net.c(net.a(x) - net.b(x)), a=conv(), b=conv(), c=conv(8, 4)
    ),
    "div": lambda: images(lambda net, x: net.c(net.a(x) / 3.0), a=conv(), c=conv(8, 4)),
    "leaky relu": lambda: images(
        lambda net, x: net.b(f.leaky_relu(net.a(x), 0.2)), a=conv(), b=conv(8, 4)
    ),
    "sigmoid": lambda: images(lambda net, x: net.b(net.a(x).sigmoid()), a=conv(), b=conv(8, 4)),
    "tanh": lambda: images(lambda net, x: net.b(net.a(x).tanh()), a=conv(), b=conv(8, 4)),
    "silu": lambda: images(lambda net, x: net.b(f.silu(net.a(x))), a=conv(), b=conv(8, 4)),
    "hard swish": lambda: images(
        lambda net, x: net.b(f.hardswish(net.a(x) * 4)), a=conv(), b=conv(8, 4)
    ),
    "hard sigmoid": lambda: images(
        lambda net, x: net.b(f.hardsigmoid(net.a(x) * 4)), a=conv(), b=conv(8, 4)
    ),
    "gelu": lambda: tokens(
        lambda net, x: net.b(f.gelu(net.a(x))), a=nn.Linear(8, 8), b=nn.Linear(8, 4)
    ),
    "gelu of tanh": lambda: tokens(
        lambda net, x: net.b(f.gelu(net.a(x), approximate="tanh")),
        a=nn.Linear(8, 8),
        b=nn.Linear(8, 4),
    ),
    "elu": lambda: images(lambda net, x: net.b(f.elu(net.a(x))), a=conv(), b=conv(8, 4)),
    "mish": lambda: images(lambda net, x: net.b(f.mish(net.a(x))), a=conv(), b=conv(8, 4)),
    "prelu": lambda: normed(nn.PReLU(8, 0.1)),
    "softmax": lambda: tokens(
        lambda net, x: net.b(net.a(x).softmax(-1)), a=nn.Linear(8, 8), b=nn.Linear(8, 4)
    ),
    "softmax at the end": lambda: Net(
        (8,), lambda net, x: (net.a(x) * 3).softmax(-1), a=nn.Linear(8, 4)
    ),
    "log softmax at the end": lambda: Net(
        (8,), lambda net, x: net.a(x).log_softmax(-1), a=nn.Linear(8, 4)
    ),
    "max pool": lambda: images(
        lambda net, x: net.b(f.max_pool2d(net.a(x), 2)), a=conv(), b=conv(8, 4)
    ),
    "average pool": lambda: images(
        lambda net, x: net.b(f.avg_pool2d(net.a(x), 2)), a=conv(), b=conv(8, 4)
    ),
    "padded average pool": lambda: images(
        lambda net, x: net.b(f.avg_pool2d(net.a(x), 3, 2, 1)), a=conv(), b=conv(8, 4)
    ),
    "global average pool": lambda: images(
        lambda net, x: net.b(f.adaptive_avg_pool2d(net.a(x), 1).flatten(1)),
        a=conv(),
        b=nn.Linear(8, 4),
    ),
    "mean": lambda: images(
        lambda net, x: net.b(net.a(x).mean((2, 3))), a=conv(), b=nn.Linear(8, 4)
    ),
    "nearest": lambda: images(
        lambda net, x: net.b(f.interpolate(net.a(x), scale_factor=2)), a=conv(), b=conv(8, 4)
    ),
    "bilinear": lambda: images(
        lambda net, x: net.b(f.interpolate(net.a(x), scale_factor=2, mode="bilinear")),
        a=conv(),
        b=conv(8, 4),
    ),
    "bilinear of corners": lambda: images(
        lambda net, x: net.b(
            f.interpolate(net.a(x), size=(13, 11), mode="bilinear", align_corners=True)
        ),
        a=conv(),
        b=conv(8, 4),
    ),
    "pad": lambda: images(
        lambda net, x: net.b(f.pad(net.a(x), (1, 2, 2, 1))), a=conv(), b=conv(8, 4)
    ),
    "reflected": lambda: images(
        lambda net, x: net.b(f.pad(net.a(x), (1, 2, 2, 1), mode="reflect")), a=conv(), b=conv(8, 4)
    ),
    "slice": lambda: images(lambda net, x: net.b(net.a(x)[:, 2:6, ::2]), a=conv(), b=conv(4, 4)),
    "split": lambda: images(
        lambda net, x: net.b(torch.mul(*net.a(x).chunk(2, 1))), a=conv(), b=conv(4, 4)
    ),
    "transposed": lambda: images(
        lambda net, x: net.b(net.a(x).permute(0, 2, 3, 1)), a=conv(), b=nn.Linear(8, 4)
    ),
    "reshaped": lambda: images(
        lambda net, x: net.b(net.a(x).flatten(1)), a=conv(), b=nn.Linear(512, 4)
    ),
    "pixel shuffle": lambda: images(
        lambda net, x: net.b(f.pixel_shuffle(net.a(x), 2)), a=conv(), b=conv(2, 4)
    ),
    "where": lambda: images(
        lambda net, x: net.b(torch.where(x[:, :1] > 0, net.a(x), net.a(x) * 0.5)),
        a=conv(),
        b=conv(8, 4),
    ),
    "concat": lambda: images(
        lambda net, x: net.c(torch.cat([net.a(x), net.b(x)], 1)),
        a=conv(),
        b=conv(),
        c=conv(16, 4, 1),
    ),
    "concat of relus": lambda: images(
        lambda net, x: net.c(torch.cat([net.a(x).relu(), net.b(x)], 1)),
        a=conv(),
        b=conv(),
        c=conv(16, 4, 1),
    ),
    "layer norm": lambda: normed(nn.LayerNorm(8), (6, 8)),
    "layer norm without bias": lambda: normed(nn.LayerNorm(8, bias=False), (6, 8)),
    "rms norm": lambda: normed(nn.RMSNorm(8), (6, 8)),
    "group norm": lambda: normed(nn.GroupNorm(2, 8)),
    "instance norm": lambda: normed(nn.InstanceNorm2d(8, affine=True)),
    "batch norm": lambda: normed(nn.BatchNorm2d(8)),
    "layer scale": lambda: tokens(
        lambda net, x: x + net.gamma * net.a(x),
        a=nn.Linear(8, 8),
        gamma=nn.Parameter(torch.full((8,), 0.3)),
    ),
    # patterns
    "residual": lambda: images(
        lambda net, x: (net.b(net.a(x).relu()) + net.a(x)).relu(), a=conv(), b=conv(8, 8)
    ),
    "pre-activation": lambda: images(
        lambda net, x: net.b(net.n(net.a(x)).relu()) + net.a(x),
        a=conv(),
        n=nn.BatchNorm2d(8),
        b=conv(8, 8),
    ),
    "unfolded batch norm": _unfolded,
    "squeeze and excite": lambda: images(
        lambda net, x: net.c(
            net.a(x) * net.up(net.down(net.a(x).mean((2, 3), keepdim=True)).relu()).sigmoid()
        ),
        a=conv(),
        down=conv(8, 4, 1),
        up=conv(4, 8, 1),
        c=conv(8, 4, 1),
    ),
    "siamese": lambda: images(
        lambda net, x: net.b(net.a(x).relu() - net.a(x.flip(-1)).relu()), a=conv(), b=conv(8, 4, 1)
    ),
    "shared twice": lambda: tokens(lambda net, x: net.a(net.a(net.a(x)).relu()), a=nn.Linear(8, 8)),
    "tied": lambda: Net(
        (8,),
        lambda net, x: f.linear(f.linear(x, net.w).relu(), net.w.t()),
        w=nn.Parameter(torch.randn(6, 8)),
    ),
    "language model": lambda: tokens(
        _language_model, words=nn.Embedding(10, 8), body=nn.Linear(8, 8)
    ),
    "embedding": lambda: Net(
        (6,), _embedding, words=nn.Embedding(10, 8), norm=nn.LayerNorm(8), head=nn.Linear(8, 4)
    ),
    "frozen": lambda: frozen(
        images(lambda net, x: net.b(net.a(x).relu()), a=conv(), b=conv(8, 4)), "a"
    ),
    "frozen tokens": lambda: frozen(
        tokens(
            lambda net, x: net.b(net.n(net.a(x)).relu()),
            a=nn.Linear(8, 8),
            n=nn.LayerNorm(8),
            b=nn.Linear(8, 4),
        ),
        "a",
        "n",
    ),
    "buffers": lambda: Net(
        (8,),
        lambda net, x: net.a(x) * net.std + net.mean,
        a=nn.Linear(8, 4),
        std=torch.tensor([1.0, 2.0, 3.0, 4.0]),
        mean=torch.tensor([3.0, 2.0, 1.0, 0.0]),
    ),
    "positions": lambda: tokens(
        lambda net, x: net.b((net.a(x) + net.at).relu()),
        a=nn.Linear(8, 8),
        at=nn.Parameter(torch.randn(6, 8)),
        b=nn.Linear(8, 4),
    ),
    "class token": lambda: tokens(
        lambda net, x: net.b(torch.cat([net.token.expand(x.shape[0], 1, 8), net.a(x)], 1) + net.at),
        a=nn.Linear(8, 8),
        token=nn.Parameter(torch.randn(1, 1, 8)),
        at=nn.Parameter(torch.randn(7, 8)),
        b=nn.Linear(8, 4),
    ),
    "attention": _attention,
    "masked attention": lambda: _attention(mask=torch.full((6, 6), -100.0).triu(1)),
    "lstm": lambda: tokens(
        lambda net, x: net.b(net.a(x)[0]), a=nn.LSTM(8, 8, batch_first=True), b=nn.Linear(8, 4)
    ),
    "gru": lambda: tokens(
        lambda net, x: net.b(net.a(x)[0]), a=nn.GRU(8, 8, batch_first=True), b=nn.Linear(8, 4)
    ),
    "dead channel": _dead_channel,
    "standardised weights": lambda: images(
        lambda net, x: net.b(_standardised(net, x).relu()),
        a=conv(),
        gain=nn.Parameter(torch.full((8,), 0.3)),
        b=conv(8, 4, 1),
    ),
    "class token's features": lambda: tokens(
        lambda net, x: torch.tanh(net.b(net.n(net.a(x))[:, 0])),
        a=nn.Linear(8, 8),
        n=nn.LayerNorm(8),
        b=nn.Linear(8, 4),
    ),
}
