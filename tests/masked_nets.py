"""Attention under a mask, in the forms that exporters write one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from hasten.runtimes import Arrays
from onnx_models import model, value

TOKENS, WIDTH = 6, 16
LEAST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Form:
    """How scores ``s`` become masked scores ``m``, and what the input ``mask`` holds."""

    nodes: tuple[onnx.NodeProto, ...]
    constants: tuple[onnx.TensorProto, ...] = ()
    kind: int = TensorProto.FLOAT
    masked: Callable[[np.ndarray], np.ndarray] = lambda there: there.astype(np.float32)


def _constant(name: str, number: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(number, np.float32), name)


def _added(low: float) -> Form:
    """An additive mask comes in as it is."""
    node = helper.make_node("Add", ["s", "mask"], ["m"])
    return Form((node,), masked=lambda there: np.where(there, np.float32(0), np.float32(low)))


def _scaled(factor: float) -> Form:
    """A mask of zeros and ones is made an additive one: ``(1 - mask) * factor``."""
    return Form(
        (
            helper.make_node("Sub", ["one", "mask"], ["absent"]),
            helper.make_node("Mul", ["absent", "factor"], ["low"]),
            helper.make_node("Add", ["s", "low"], ["m"]),
        ),
        (_constant("one", 1), _constant("factor", factor)),
    )


def _chosen(low: float) -> Form:
    """Where the mask is false stands a constant."""
    return Form(
        (helper.make_node("Where", ["mask", "s", "low"], ["m"]),),
        (_constant("low", low),),
        TensorProto.BOOL,
        lambda there: there,
    )


def _shifted() -> Form:
    """A mask of zeros and ones, ``(mask - 1) * 1e9``."""
    return Form(
        (
            helper.make_node("Sub", ["mask", "one"], ["absent"]),
            helper.make_node("Mul", ["absent", "factor"], ["low"]),
            helper.make_node("Add", ["low", "s"], ["m"]),
        ),
        (_constant("one", 1), _constant("factor", 1e9)),
    )


FORMS: dict[str, Form] = {
    "added -inf": _added(-np.inf),
    "added -1e4": _added(-1e4),
    "added -100": _added(-100),
    "scaled by float32's least": _scaled(LEAST),
    "scaled by -1e4": _scaled(-1e4),
    "scaled by 1e9": _shifted(),
    "chosen -inf": _chosen(-np.inf),
    "chosen -1e9": _chosen(-1e9),
}
NO_MASK = Form((helper.make_node("Identity", ["s"], ["m"]),))


def attention(form: Form) -> Model:
    """x[n,6,16] and mask[n,1,6] through one head of attention to y[n,6,16]."""
    random = np.random.default_rng(0)

    def weight(name: str, scale: float) -> onnx.TensorProto:
        values = random.normal(size=(WIDTH, WIDTH)) * scale / WIDTH**0.5
        return numpy_helper.from_array(values.astype(np.float32), name)

    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{name}"], [name], name=name) for name in "qkv"),
        helper.make_node("Transpose", ["k"], ["kt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["q", "kt"], ["s"], name="scores"),
        *form.nodes,
        helper.make_node("Softmax", ["m"], ["p"], axis=-1, name="softmax"),
        helper.make_node("MatMul", ["p", "v"], ["a"], name="mix"),
        helper.make_node("MatMul", ["a", "wo"], ["y"], name="out"),
    ]
    weights = [weight("wq", 1.5), weight("wk", 1.5), weight("wv", 1), weight("wo", 1)]
    inputs = [value("x", ["n", TOKENS, WIDTH])]
    if form is not NO_MASK:
        inputs.append(value("mask", ["n", 1, TOKENS], form.kind))
    outputs = [value("y", ["n", TOKENS, WIDTH])]
    return model_from_proto(model(nodes, inputs, outputs, [*weights, *form.constants]), "attention")


def feed(form: Form, count: int = 24, *, masked: bool = True, seed: int = 0) -> Arrays:
    """Each sample with one to six tokens that are there; with all six where none is masked."""
    x = np.random.default_rng(seed).normal(size=(count, TOKENS, WIDTH)).astype(np.float32)
    lengths = 1 + np.arange(count) % TOKENS if masked else np.full(count, TOKENS)
    there = (np.arange(TOKENS)[np.newaxis] < lengths[:, np.newaxis])[:, np.newaxis]
    return {"x": x} if form is NO_MASK else {"x": x, "mask": form.masked(there)}


def samples(form: Form, *, masked: bool = True) -> Samples:
    return Samples(feed(form, masked=masked))
