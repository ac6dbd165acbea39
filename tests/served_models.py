"""Models for the server: small ONNX files, entries with a config.pbtxt, and null bundles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hasten.bundle import PlanRecord, write_bundle
from hasten.graph import model_from_proto
from hasten.runtimes import get_runtime
from manifests import evidence
from onnx_models import model, value

__all__ = [
    "ALONE",
    "entry",
    "failing",
    "identity",
    "looping",
    "picking",
    "put_bundle",
    "put_labelled",
    "put_null",
    "put_onnx",
    "rows",
    "scaled",
    "sums",
    "two_sizes",
]

#: config.pbtxt for ``scaled`` without batches.
ALONE = """max_batch_size: 0
input [{ name: "x", data_type: TYPE_FP32, dims: [ -1, 4 ] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [ -1, 4 ] }]
"""
_CLASSES = """max_batch_size: 8
input [{ name: "x", data_type: TYPE_FP32, dims: [ 4 ] }]
output [{ name: "y", data_type: TYPE_FP32, dims: [ 4 ], label_filename: "labels.txt" }]
"""

_TYPES = {
    "BOOL": TensorProto.BOOL,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
    **{
        f"{kind}{bits}": getattr(TensorProto, f"{kind}{bits}")
        for kind in ("INT", "UINT")
        for bits in (8, 16, 32, 64)
    },
}


def identity(datatype: str, shape: Sequence[int | str] = ("n", 3)) -> onnx.ModelProto:
    """x to y, as it is."""
    kind = _TYPES[datatype]
    node = helper.make_node("Identity", ["x"], ["y"])
    return model([node], [value("x", shape, kind)], [value("y", shape, kind)])


def scaled(factor: float = 2.0, shape: Sequence[int | str] = ("n", 4)) -> onnx.ModelProto:
    """y = factor * x."""
    weight = numpy_helper.from_array(np.array(factor, np.float32), "factor")
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    return model([node], [value("x", shape)], [value("y", shape)], [weight])


def sums() -> onnx.ModelProto:
    """a[n,2] and b[n,2] to their sum and their difference."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Sub", ["a", "b"], ["difference"]),
    ]
    return model(
        nodes,
        [value("a", ["n", 2]), value("b", ["n", 2])],
        [value("sum", ["n", 2]), value("difference", ["n", 2])],
    )


def two_sizes() -> onnx.ModelProto:
    """x[m] to the places where it is not 0, y[1,k]: as many as there are."""
    node = helper.make_node("NonZero", ["x"], ["y"])
    return model([node], [value("x", ["m"])], [value("y", [1, "k"], TensorProto.INT64)])


def picking() -> onnx.ModelProto:
    """x[n] to the x-th of three numbers; it fails where there is none."""
    numbers = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "numbers")
    node = helper.make_node("Gather", ["numbers", "x"], ["y"])
    return model([node], [value("x", ["n"], TensorProto.INT64)], [value("y", ["n"])], [numbers])


def looping() -> onnx.ModelProto:
    """n[1] to y: as many products of matrices as n says."""
    node = helper.make_node
    body = helper.make_graph(
        [
            node("MatMul", ["before", "w"], ["product"]),
            node("Tanh", ["product"], ["after"]),
            node("Identity", ["go"], ["goes"]),
        ],
        "body",
        [
            value("turn", [], TensorProto.INT64),
            value("go", [], TensorProto.BOOL),
            value("before", [64, 64]),
        ],
        [value("goes", [], TensorProto.BOOL), value("after", [64, 64])],
    )
    matrix = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    nodes = [
        node("Squeeze", ["n"], ["count"]),
        node("Loop", ["count", "true", "w"], ["last"], body=body),
        node("ReduceSum", ["last"], ["y"], keepdims=0),
    ]
    values = [
        numpy_helper.from_array(matrix, "w"),
        numpy_helper.from_array(np.array(True), "true"),
    ]
    return model(nodes, [value("n", [1], TensorProto.INT64)], [value("y", [])], values)


def failing(kind: str) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """Return x[n] or x[n,2] to y[n] that fails for some rows, with a good row and a bad one."""
    node = helper.make_node
    whole, number, text = TensorProto.INT64, TensorProto.FLOAT, TensorProto.STRING
    table = numpy_helper.from_array(np.array([10, 20, 30], np.float32), "table")
    seven = numpy_helper.from_array(np.array([7], np.int64), "seven")
    good, bad = np.array([2], np.int64), np.array([-7], np.int64)
    if kind == "gather":
        return picking(), good, np.array([99], np.int64)
    if kind in {"divide", "modulo"}:
        kind = "Div" if kind == "divide" else "Mod"
        nodes = [node("Add", ["seven", "x"], ["more"]), node(kind, ["seven", "more"], ["y"])]
        proto = model(nodes, [value("x", ["n"], whole)], [value("y", ["n"], whole)], [seven])
        return proto, good, bad
    if kind == "parse":
        nodes = [node("Cast", ["x"], ["y"], to=number)]
        proto = model(nodes, [value("x", ["n"], text)], [value("y", ["n"])])
        return proto, np.array(["7"], object), np.array(["seven"], object)
    if kind == "scatter":
        one = numpy_helper.from_array(np.ones((1, 1), np.float32), "one")
        nodes = [
            node("Unsqueeze", ["x", "first"], ["at"]),
            node("Shape", ["at"], ["shape"]),
            node("Expand", ["one", "shape"], ["ones"]),
            node("Concat", ["shape", "shape"], ["wide4"], axis=0),
            node("Slice", ["wide4", "begin", "end"], ["size1"]),
            node("Concat", ["size1", "three"], ["wide"], axis=0),
            node("Expand", ["one", "wide"], ["rows"]),
            node("ScatterElements", ["rows", "at", "ones"], ["found"], axis=1),
            node("ReduceSum", ["found", "first"], ["y"], keepdims=0),
        ]
        numbers = {"first": [1], "begin": [0], "end": [1], "three": [3]}
        inits = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in numbers.items()]
        proto = model(nodes, [value("x", ["n"], whole)], [value("y", ["n"])], [one, *inits])
        return proto, good, np.array([99], np.int64)
    if kind == "guard":  # a NaN becomes an index that is not there
        nodes = [
            node("IsNaN", ["x"], ["none"]),
            node("Cast", ["none"], ["flag"], to=whole),
            node("Mul", ["flag", "seven"], ["at"]),
            node("Gather", ["table", "at"], ["y"]),
        ]
        proto = model(nodes, [value("x", ["n"])], [value("y", ["n"])], [table, seven])
        return proto, np.array([1], np.float32), np.array([np.nan], np.float32)
    raise ValueError(kind)


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Inputs of ``scaled``."""
    return np.random.default_rng(seed).normal(size=(count, 4)).astype(np.float32)


def put_onnx(path: Path, proto: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)
    return path


def entry(folder: Path, proto: onnx.ModelProto, config: str = "", *, version: int = 1) -> Path:
    """Write an entry of a Triton repository."""
    put_onnx(folder / str(version) / "model.onnx", proto)
    if config:
        (folder / "config.pbtxt").write_text(config)
    return folder


def put_labelled(folder: Path) -> Path:
    """Write an entry of ``scaled`` that names three of its four classes."""
    entry(folder, scaled(), _CLASSES)
    (folder / "labels.txt").write_text("cat\ndog\nfox\n")
    return folder


def put_null(folder: Path, *, instances: int = 1, serving: Any = None, **behaviour: object) -> Path:
    """Write a bundle x[n,4] to zeros y[n,3] that takes as long, and fails, as is named."""
    proto = null_proto(**behaviour)
    return put_bundle(folder, proto, "null", instances=instances, serving=serving)


def put_bundle(
    folder: Path,
    proto: onnx.ModelProto,
    runtime: str = "onnxruntime",
    *,
    instances: int = 1,
    serving: Any = None,
) -> Path:
    """Write a bundle of a model as it is, to be served with these settings."""
    scratch = folder.parent / f".{folder.name}"
    scratch.mkdir(parents=True)
    execution = {"threads": 1, "instances": instances, "batch": 1}
    write_bundle(
        folder,
        name=folder.name,
        lowered=get_runtime(runtime).lower(model_from_proto(proto, folder.name), scratch),
        plan=PlanRecord(
            steps=(),
            runtime=runtime,
            execution=execution | {"hint": "default", "device": "cpu"},
            serving=json.loads(json.dumps(serving or {})),
        ),
        evidence=evidence(),
        environment={},
        pages={},
    )
    return folder


def null_proto(**behaviour: object) -> onnx.ModelProto:
    """x[n,4] to zeros y[n,3] in the null runtime."""
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", ["n", 4])],
        [value("y", ["n", 3])],
        [numpy_helper.from_array(np.ones((4, 3), np.float32), "w")],
    )
    helper.set_model_props(proto, {f"hasten.null.{k}": str(v) for k, v in behaviour.items()})
    return proto
