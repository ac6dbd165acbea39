"""What contestants answer, with a real runtime: samples are told apart whatever a model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from hasten.data import Fidelity, Samples
from hasten.graph import model_from_proto
from hasten.measure.clock import Deadline
from hasten.runtimes import Execution, get_runtime
from hasten.tune.budget import Budget
from hasten.tune.candidate import Candidate, Contestant
from hasten.tune.judge import Judge
from onnx_models import model, value, weight
from planted_metrics import Satisfied

Dims = dict[str, list[int | str]]

COUNT = 7
ROWS = np.random.default_rng(0).standard_normal((COUNT, 4)).astype(np.float32)


def net(
    *nodes: onnx.NodeProto,
    batch: int | str = "n",
    outputs: Dims | None = None,
    **more: list[int | str],
) -> onnx.ModelProto:
    """x[batch, 4] to outputs of these shapes."""
    integers = {"zero": 0, "one": 1, "five": 5}
    constants = [numpy_helper.from_array(np.array([v]), name) for name, v in integers.items()]
    return model(
        nodes,
        [value("x", [batch, 4])],
        [value(name, dims) for name, dims in {**(outputs or {}), **more}.items()],
        [weight("w", 4, 3), *constants],
    )


def node(kind: str, inputs: str, output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs.split(), [output], **attributes)


PRODUCT = node("MatMul", "x w", "y")


def judged(
    folder: Path, proto: onnx.ModelProto, rows: np.ndarray = ROWS, *, batch: int = 1
) -> tuple[Judge, Contestant]:
    """Judge a model against itself, as it is and with a batch."""
    samples = Samples({"x": rows})
    samples.save(folder / "samples")
    judge = Judge(Fidelity(), Budget(), samples, folder / "samples", folder, Deadline.after(None))
    made = model_from_proto(proto, "net")
    lowered = get_runtime("onnxruntime").lower(made, folder)
    reference, other = (
        Contestant(
            Candidate((), "onnxruntime", Execution(batch=made.signature.batch or size)),
            made,
            lowered,
        )
        for size in (1, batch)
    )
    judge.judge_reference(reference)
    return judge, other


@pytest.mark.parametrize(
    ("nodes", "outputs", "axis", "shape"),
    [
        ([PRODUCT], {"y": ["n", 3]}, 0, (COUNT, 3)),
        ([PRODUCT, node("Transpose", "y", "t")], {"t": [3, "n"]}, 1, (COUNT, 3)),
        (
            [PRODUCT, node("ReduceMean", "y", "m", keepdims=0)],
            {"m": []},
            None,
            (COUNT,),
        ),
        (
            [PRODUCT, node("Unsqueeze", "y zero", "u"), node("Concat", "u u", "c", axis=0)],
            {"c": [2, "n", 3]},
            1,
            (COUNT, 2, 3),
        ),
    ],
    ids=["first", "second", "none", "beside another of one"],
)
def test_the_axis_of_samples_is_found_by_running(
    tmp_path: Path,
    nodes: list[onnx.NodeProto],
    outputs: Dims,
    axis: int | None,
    shape: tuple[int, ...],
) -> None:
    judge, _ = judged(tmp_path, net(*nodes, outputs=outputs))
    (name,) = outputs
    found = judge.reference[name]
    assert found.axis.axis == axis
    assert found.values is not None
    assert found.values.shape == shape


def test_a_squeezed_batch_is_one_answer_a_sample(tmp_path: Path) -> None:
    proto = net(
        PRODUCT,
        node("Reshape", "y shape", "s"),
        batch=1,
        s=[3],
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([3]), "shape"))
    judge, _ = judged(tmp_path, proto)
    assert judge.reference["s"].values is not None
    assert judge.reference["s"].values.shape == (COUNT, 3)


def test_samples_of_a_fixed_batch_are_told_apart_and_padding_is_left_out(tmp_path: Path) -> None:
    judge, _ = judged(tmp_path, net(node("Mul", "x x", "y"), batch=4, y=[4, 4]))
    found = judge.reference["y"].values
    assert found is not None
    np.testing.assert_allclose(found, np.square(ROWS), rtol=1e-6)


def test_what_is_found_varies_in_number(tmp_path: Path) -> None:
    proto = net(
        node("Greater", "x limit", "g"),
        node("NonZero", "g", "z"),
        node("Transpose", "z", "t"),
        t=["found", 2],
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0, np.float32), "limit"))
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    judge, other = judged(tmp_path, proto)
    assert [len(part) for part in judge.reference["t"].parts] == list((ROWS > 0).sum(axis=1))
    assert judge.judge(other)


def test_in_batches_samples_answer_as_they_do_alone(tmp_path: Path) -> None:
    judge, batched = judged(tmp_path, net(PRODUCT, y=["n", 3]), batch=4)
    assert judge.judge(batched)


def test_rows_that_mix_are_seen_where_they_are_batched(tmp_path: Path) -> None:
    judge, batched = judged(tmp_path, net(node("CumSum", "x zero", "y"), y=["n", 4]), batch=4)
    assert not judge.judge(batched)
    assert batched.status == "over_budget"


def test_an_output_of_no_sample_is_left_out_where_they_are_batched(tmp_path: Path) -> None:
    proto = net(PRODUCT, node("ReduceMean", "y", "m", keepdims=0), y=["n", 3], m=[])
    judge, batched = judged(tmp_path, proto, batch=4)
    assert judge.judge(batched)
    assert judge.notes == [
        "output 'm' has no axis of samples: where they are batched it is not judged"
    ]


def test_a_ruined_output_that_the_metric_does_not_look_at_is_refused(tmp_path: Path) -> None:
    proto = net(PRODUCT, node("Mul", "x x", "z"), y=["n", 3], z=["n", 4])
    judge, _ = judged(tmp_path, proto)
    judge.metric = Satisfied()
    ruined = net(PRODUCT, node("Mul", "x none", "z"), y=["n", 3], z=["n", 4])
    ruined.graph.initializer.append(numpy_helper.from_array(np.zeros(4, np.float32), "none"))
    made = model_from_proto(ruined, "net")
    lowered = get_runtime("onnxruntime").lower(made, tmp_path)
    contestant = Contestant(Candidate((), "onnxruntime", Execution()), made, lowered)
    assert not judge.judge(contestant)
    assert contestant.reason == "output 'z' (regression) is ruined: it became constant"
    assert judge.drop_of(contestant) == 0
