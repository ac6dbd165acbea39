"""Rows are told apart in a graph: never called independent where a runtime mixes them."""

import re

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper, parser

from hasten.graph.rows import RowVerdict, row_verdict

_RANDOM = np.random.default_rng(0)
_ROWS = 3


def _model(body: str, *, opset: int = 18, inputs: str = "float[b,4,6] x") -> onnx.ModelProto:
    """Build a model of ONNX's text, where ``{1,2}`` is a constant: it makes ``y`` of rows ``x``."""
    body = re.sub(r"\{(-?\d+(?:,-?\d+)*)\}", r"Constant<value_ints=[\1]>()", body)
    text = f"""<ir_version: 9, opset_import: ["" : {opset}]>
    g ({inputs}) => (float[b] y)
    <float[6,6] square, float[4] four, float[6] six, float[1,4,6] middle> {{ {body} }}"""
    model = parser.parse_model(text)
    for name, shape in {"square": (6, 6), "four": (4,), "six": (6,), "middle": (1, 4, 6)}.items():
        value = _RANDOM.normal(size=shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, name))
    del model.graph.value_info[:]
    model.graph.output[0].type.tensor_type.ClearField("shape")
    return model


#: What keeps rows apart, by what it is an example of.
_APART = {
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
_MIXED = {
    "mean of all": "axes = {0} m = ReduceMean<keepdims=1>(x, axes) y = Sub(x, m)",
    "mean of everything": "m = ReduceMean<keepdims=1>(x) y = Sub(x, m)",
    "softmax over rows": "y = Softmax<axis=0>(x)",
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


def _alone_and_joined(model: onnx.ModelProto) -> bool:
    """Whether a runtime answers for each row alone as it does for all at once."""
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feed = {
        value.name: (_RANDOM.normal(size=(_ROWS, 4, 6)) * [[[1.0]], [[5.0]], [[0.2]]]).astype(
            np.float32
        )
        for value in session.get_inputs()
    }
    joined = session.run(None, feed)
    alone = [
        session.run(None, {name: v[at : at + 1] for name, v in feed.items()}) for at in range(_ROWS)
    ]
    for at, whole in enumerate(joined):
        parts = [one[at] for one in alone]
        if any(part.shape[:1] != (1,) for part in parts) or whole.shape[:1] != (_ROWS,):
            return False
        if not np.allclose(whole, np.concatenate(parts), rtol=1e-4, atol=1e-5):
            return False
    return True


@pytest.mark.parametrize("name", _APART)
def test_rows_that_stay_apart_are_proven_to(name: str) -> None:
    model = _model(_APART[name])
    assert row_verdict(model) == RowVerdict("independent")
    assert _alone_and_joined(model)


@pytest.mark.parametrize("name", _MIXED)
def test_rows_that_are_mixed_are_found_with_the_node(name: str) -> None:
    model = _model(_MIXED[name])
    verdict = row_verdict(model)
    assert verdict.rows == "mixed", verdict
    assert verdict.node, verdict
    assert not _alone_and_joined(model)


_AXES = st.integers(0, 2)
#: What may be done to three axes to give three again, as ONNX's text: of {v}, with a constant {s}.
_PLAIN = st.one_of(
    st.permutations([0, 1, 2]).map(lambda order: f"Transpose<perm={order}>({{v}})"),
    _AXES.map(lambda axis: f"Softmax<axis={axis}>({{v}})"),
    _AXES.map(lambda axis: f"LpNormalization<axis={axis}>({{v}})"),
    st.tuples(_AXES, st.sampled_from(["ReduceMax", "ReduceSum"])).map(
        lambda drawn: f"{drawn[1]}<keepdims=1>({{v}}, axis{drawn[0]})"
    ),
    _AXES.map(lambda axis: f"CumSum({{v}}, axis{axis})"),
    _AXES.map(lambda axis: f"Concat<axis={axis}>({{v}}, {{v}})"),
    _AXES.map(lambda axis: f"Slice({{v}}, axis0, axis1, axis{axis})"),
    st.sampled_from(["Relu({v})", "Sub({v}, first)", "Add({v}, middle)", "MatMul({v}, square)"]),
    st.sampled_from(["MatMul({v}, x)", "Mul({v}, x)", "Add({v}, rows)"]),
)
_SHAPES = ["-1,4,6", "4,-1,6", "4,6,-1", "6,-1,4", "2,-1,3", "-1,1,6", "1,-1,24"]
_STEPS = st.one_of(
    _PLAIN.map(lambda text: ("{0}", text)),
    st.sampled_from(_SHAPES).map(lambda shape: (f"{{{shape}}}", "Reshape({v}, {s})")),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_STEPS, min_size=1, max_size=5))
def test_rows_are_never_called_independent_where_a_runtime_mixes_them(
    steps: list[tuple[str, str]],
) -> None:
    body = (
        "axis0 = {0} axis1 = {1} axis2 = {2} v0 = Relu(x) n = Shape<start=0,end=1>(x)"
        " rows = Cast<to=1>(n) first = ReduceMax(middle)"
    )
    for at, (shape, step) in enumerate(steps):
        body += f" s{at} = {shape} v{at + 1} = {step.format(v=f'v{at}', s=f's{at}')}"
    model = _model(f"{body} y = Identity(v{len(steps)})")
    if row_verdict(model).rows == "independent":
        assert _alone_and_joined(model), steps
