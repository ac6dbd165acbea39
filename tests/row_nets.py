"""Graphs of a free first axis, written as ONNX's text: rows kept apart, and rows mixed."""

from __future__ import annotations

import re

import numpy as np
import onnx
from onnx import numpy_helper, parser

__all__ = ["APART", "MIXED", "row_net"]

_CONSTANTS = {"square": (6, 6), "four": (4,), "six": (6,), "middle": (1, 4, 6)}


def row_net(body: str, *, opset: int = 18) -> onnx.ModelProto:
    """Build a graph that makes ``y`` of rows ``x`` [b, 4, 6]; ``{1,2}`` is a constant of integers.

    ``square`` [6, 6], ``four`` [4], ``six`` [6] and ``middle`` [1, 4, 6] are its weights.
    """
    body = re.sub(r"\{(-?\d+(?:,-?\d+)*)\}", r"Constant<value_ints=[\1]>()", body)
    text = f"""<ir_version: 9, opset_import: ["" : {opset}]>
    g (float[b,4,6] x) => (float[b] y)
    <float[6,6] square, float[4] four, float[6] six, float[1,4,6] middle> {{ {body} }}"""
    model = parser.parse_model(text)
    random = np.random.default_rng(0)
    for name, shape in _CONSTANTS.items():
        value = random.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    del model.graph.value_info[:]
    dims = model.graph.output[0].type.tensor_type.shape.dim
    for name in ("c", "d"):
        dims.add().dim_param = name
    return model


#: What keeps rows apart, by what it is an example of.
APART = {
    "elementwise": "a = Relu(x) y = Add(a, middle)",
    "matmul": "y = MatMul(x, square)",
    "mean of the others": "axes = {1} y = ReduceMean<keepdims=0>(x, axes)",
    "softmax of the last": "y = Softmax<axis=-1>(x)",
    "turned and back": (
        "a = Transpose<perm=[1,0,2]>(x) c = MatMul(a, square) y = Transpose<perm=[1,0,2]>(c)"
    ),
    "steps joined with rows": (
        "s = {-1,6} a = Reshape(x, s) c = MatMul(a, square) t = {-1,4,6} y = Reshape(c, t)"
    ),
    "steps joined before rows": (
        "p = Transpose<perm=[1,0,2]>(x) s = {-1,6} a = Reshape(p, s) b1 = MatMul(a, square)"
        " t = {4,-1,6} c = Reshape(b1, t) y = Transpose<perm=[1,0,2]>(c)"
    ),
    "shape that is computed": (
        "sh = Shape<start=0,end=1>(x) r = {24} s = Concat<axis=0>(sh, r) y = Reshape(x, s)"
    ),
    "own row by its number": (
        "sh = Shape<start=0,end=1>(x) e = Squeeze(sh) zero = Constant<value_int=0>()"
        " one = Constant<value_int=1>() n = Range(zero, e, one) y = Gather<axis=0>(x, n)"
    ),
    "zeros for each row": (
        "sh = Shape<start=0,end=1>(x) r = {4,6} s = Concat<axis=0>(sh, r)"
        " z = ConstantOfShape(s) y = Concat<axis=1>(x, z)"
    ),
    "a token for each row": (
        "sh = Shape<start=0,end=1>(x) r = {4,6} s = Concat<axis=0>(sh, r)"
        " z = Expand(middle, s) y = Concat<axis=1>(x, z)"
    ),
    "attention": (
        "k = Transpose<perm=[0,2,1]>(x) q = MatMul(x, k) p = Softmax<axis=-1>(q) y = MatMul(p, x)"
    ),
    "einsum": 'y = Einsum<equation="bij,jk->bki">(x, square)',
    "sum over steps": "axis = {1} y = CumSum(x, axis)",
    "normalized": "y = LayerNormalization<axis=-1>(x, six)",
    "the largest two": "k = {2} y, i = TopK<axis=-1>(x, k)",
    "steps of time": (
        "p = Transpose<perm=[1,0,2]>(x) n = {0} w = Unsqueeze(square, n)"
        " r, h = RNN<hidden_size=6>(p, w, w) o = {1} q = Squeeze(r, o)"
        " y = Transpose<perm=[1,0,2]>(q)"
    ),
    "from step to step": (
        "sh = Shape<start=0,end=1>(x) r = {6} s = Concat<axis=0>(sh, r) z = ConstantOfShape(s)"
        " last, q = Scan<num_scan_inputs=1, scan_input_axes=[1], scan_output_axes=[1],"
        " body = s (float[b,6] h, float[b,6] r) => (float[b,6] hh, float[b,6] o1)"
        " { hh = Add(h, r) o1 = Identity(hh) }>(z, x) y = Identity(q)"
    ),
    "a loop of known length": (
        "n = Constant<value_int=3>() c = Constant<value_int=1>() t = Cast<to=9>(c)"
        " y = Loop<body = s (int64 i, bool k, float[b,4,6] h) => (bool kk, float[b,4,6] hh)"
        " { kk = Identity(k) hh = Mul(h, middle) }>(n, t, x)"
    ),
    "a step": "i = {2} y = Gather<axis=1>(x, i)",
    "all of a slice": "s = {0} e = {9223372036854775807} a = {0} y = Slice(x, s, e, a)",
}
#: What mixes them.
MIXED = {
    "mean of all": "axes = {0} m = ReduceMean<keepdims=1>(x, axes) y = Sub(x, m)",
    "mean of everything": "m = ReduceMean<keepdims=1>(x) y = Sub(x, m)",
    "softmax over rows": "y = Softmax<axis=0>(x)",
    "variance of all": "y = MeanVarianceNormalization<axes=[-3]>(x)",
    "sum over rows before": "axis = {0} y = CumSum(x, axis)",
    "rows for steps of time": (
        "n = {0} w = Unsqueeze(square, n) r, h = RNN<hidden_size=6>(x, w, w) o = {1}"
        " y = Squeeze(r, o)"
    ),
    "from row to row": (
        "n = {0} zero = Gather<axis=0>(middle, n) o = {0} z = Squeeze(zero, o)"
        " last, y = Scan<num_scan_inputs=1, body = s (float[4,6] h, float[4,6] r)"
        " => (float[4,6] hh, float[4,6] o1) { hh = Add(h, r) o1 = Identity(hh) }>(z, x)"
    ),
    "largest row": "k = {1} v, i = TopK<axis=0>(x, k) y = Add(x, v)",
    "first row": "i = {0} f = Gather<axis=0>(x, i) y = Sub(x, f)",
    "first row by slice": "s = {0} e = {1} a = {0} f = Slice(x, s, e, a) y = Sub(x, f)",
    "turned about": (
        "s = {-1} e = {-9223372036854775807} a = {0} t = {-1} y = Slice(x, s, e, a, t)"
    ),
    "rows across": (
        "s = {4,-1,6} a = Reshape(x, s) axes = {0} m = ReduceMean<keepdims=1>(a, axes)"
        " c = Sub(a, m) t = {-1,4,6} y = Reshape(c, t)"
    ),
    "products of rows": (
        "a = Flatten(x) t = Transpose(a) p = MatMul(a, t) axes = {1}"
        " y = ReduceSum<keepdims=1>(p, axes)"
    ),
    "number of rows": ("sh = Shape<start=0,end=1>(x) f = Cast<to=1>(sh) y = Div(x, f)"),
    "own number": (
        "sh = Shape<start=0,end=1>(x) e = Squeeze(sh) zero = Constant<value_int=0>()"
        " one = Constant<value_int=1>() n = Range(zero, e, one) f = Cast<to=1>(n)"
        " a = {1,2} g = Unsqueeze(f, a) y = Add(x, g)"
    ),
    "a scale of all": "q, s, z = DynamicQuantizeLinear(x) y = DequantizeLinear(q, s, z)",
    "a choice for all": (
        "m = ReduceMax<keepdims=0>(x) two = Constant<value_float=1.5>() c = Greater(m, two)"
        " y = If(c)<then_branch = t () => (float[b,4,6] yt) { yt = Relu(x) },"
        " else_branch = e () => (float[b,4,6] ye) { ye = Neg(x) }>"
    ),
}
