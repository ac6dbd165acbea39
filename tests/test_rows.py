"""Rows are told apart in a graph: never called independent where a runtime mixes them."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hasten.graph.rows import RowVerdict, row_verdict
from row_nets import APART, MIXED, row_net

_RANDOM = np.random.default_rng(0)
_ROWS = 3


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


@pytest.mark.parametrize("name", APART)
def test_rows_that_stay_apart_are_proven_to(name: str) -> None:
    model = row_net(APART[name])
    assert row_verdict(model) == RowVerdict("independent")
    assert _alone_and_joined(model)


@pytest.mark.parametrize("name", MIXED)
def test_rows_that_are_mixed_are_found_with_the_node(name: str) -> None:
    model = row_net(MIXED[name])
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
    model = row_net(f"{body} y = Identity(v{len(steps)})")
    if row_verdict(model).rows == "independent":
        assert _alone_and_joined(model), steps
