"""What something is divided by stays in float: its small values are not rounded to nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import helper, numpy_helper

from hasten.compress import Context, StaticInt8, apply_step
from hasten.compress.quantization.divisors import divisor_tensors
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from int8_net import constants, sqnr_db
from onnx_models import model, run, value, weight


def linear_attention() -> Model:
    """``q (k^T v) / (q k^T 1)``, which is a slice of the same product, as in EfficientViT."""
    nodes = [
        *(helper.make_node("MatMul", ["x", f"w{name}"], [name], f"make {name}") for name in "qkv"),
        *(helper.make_node("Relu", [name], [f"{name}r"], f"relu {name}") for name in "qk"),
        helper.make_node("Transpose", ["kr"], ["kt"], "turn", perm=[0, 2, 1]),
        helper.make_node("Pad", ["v", "one column", "one"], ["v1"], "with ones"),
        helper.make_node("MatMul", ["kt", "v1"], ["kv"], "memory"),
        helper.make_node("MatMul", ["qr", "kv"], ["both"], "answer"),
        helper.make_node("Slice", ["both", "0", "8", "2"], ["above"], "above"),
        helper.make_node("Slice", ["both", "8", "9", "2"], ["below"], "below"),
        helper.make_node("Add", ["below", "small"], ["divisor"], "positive"),
        helper.make_node("Div", ["above", "divisor"], ["quotient"], "quotient"),
        helper.make_node("MatMul", ["quotient", "wo"], ["y"], "out"),
    ]
    numbers = {
        "one column": np.array([0, 0, 0, 0, 0, 1]),
        "one": np.float32(1),
        "small": np.float32(1e-6),
        **{name: np.array([int(name)]) for name in "0892"},
    }
    weights = [numpy_helper.from_array(np.asarray(one), name) for name, one in numbers.items()]
    weights += [weight(f"w{name}", 8, 8, seed=at) for at, name in enumerate("qkvo")]
    outputs = [value("y", ["n", 6, 8])]
    proto = model(nodes, [value("x", ["n", 6, 8])], outputs, weights)
    return model_from_proto(proto, "linear attention")


def tokens(count: int = 64) -> np.ndarray:
    """Of several sizes, so that normalisers are."""
    random = np.random.default_rng(0)
    sizes = np.exp(0.2 * random.normal(size=(count, 6, 1)))
    return (random.normal(size=(count, 6, 8)) * sizes).astype(np.float32)


def test_a_normaliser_and_what_it_is_cut_from_stay_in_float(tmp_path: Path) -> None:
    net, x = linear_attention(), tokens()
    place = Context(tmp_path, Samples({"x": x}))
    made = apply_step(net, StaticInt8(), place)
    assert divisor_tensors(net.graph) == {"divisor", "below", "both", "kv"}
    told = "memory and 4 more: it reads or makes what is divided by"
    assert place.notes == [f"static int8 leaves in float: {told}"]
    assert {"wq_quantized", "wk_quantized", "wv_quantized", "wo_quantized"} <= set(constants(made))
    assert sqnr_db(run(net, {"x": x})["y"], run(made, {"x": x})["y"]) > 15


def test_a_constant_divisor_and_a_sum_over_many_values_are_no_such() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Div", ["m", "two"], ["h"]),
        helper.make_node("ReduceMean", ["h"], ["mean"], keepdims=1),
        helper.make_node("Div", ["h", "mean"], ["y"]),
    ]
    two = numpy_helper.from_array(np.array(2, np.float32), "two")
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 3])], [weight("w", 4, 3), two])
    assert divisor_tensors(proto) == {"mean"}


def test_heads_of_several_sizes_keep_their_normalisers(tmp_path: Path) -> None:
    """One step for the memories of all heads would be all that there is of the smallest."""
    sizes = np.array([1, 0.1, 0.02], np.float32)
    net, x = heads(sizes), tokens()
    made = apply_step(net, StaticInt8(), Context(tmp_path, Samples({"x": x})))
    want, have = (run(one, {"x": x})["y"] for one in (net, made))
    for head in range(len(sizes)):
        assert sqnr_db(want[:, head], have[:, head]) > 30


def heads(sizes: np.ndarray) -> Model:
    """``x (k^T k) / (x k^T 1)`` of what is positive, with keys of another size for each head."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], "make"),
        helper.make_node("Sigmoid", ["product"], ["all"], "positive"),
        helper.make_node("Unsqueeze", ["all", "1"], ["q"], "one head"),
        helper.make_node("Mul", ["q", "sizes"], ["k"], "resize"),
        helper.make_node("Transpose", ["k"], ["kt"], "turn", perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["kt", "q"], ["kv"], "memory"),
        helper.make_node("MatMul", ["q", "kv"], ["both"], "answer"),
        helper.make_node("Slice", ["both", "0", "1", "3"], ["below"], "below"),
        helper.make_node("Div", ["both", "below"], ["y"], "quotient"),
    ]
    numbers = [numpy_helper.from_array(np.array([int(name)]), name) for name in "013"]
    numbers.append(numpy_helper.from_array(sizes.reshape(1, -1, 1, 1), "sizes"))
    outputs = [value("y", ["n", len(sizes), 6, 8])]
    proto = model(nodes, [value("x", ["n", 6, 8])], outputs, [weight("w", 8, 8), *numbers])
    return model_from_proto(proto, "heads")
