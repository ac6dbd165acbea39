"""int8 under a mask: scores that are not masked keep their levels, however the mask is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from hasten.compress import Context, StaticInt8, apply_step
from hasten.compress.activations.histogram import Histogram
from hasten.compress.quantization.masks import before_softmax, holds_masks, masked_tensors
from hasten.data import Samples
from hasten.graph import Model, model_from_proto
from hasten.runtimes import Execution, get_runtime
from hasten.worker.session import in_worker
from int8_net import constants, sqnr_db
from masked_nets import FORMS, NO_MASK, Form, attention, feed, samples
from onnx_models import model, run, value

every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def quantized(form: Form, folder: Path, *, masked: bool = True) -> Model:
    return apply_step(attention(form), StaticInt8(), Context(folder, samples(form, masked=masked)))


def fidelity(form: Form, made: Model) -> float:
    """SQNR of the int8 model on samples that are masked."""
    given = feed(form, seed=1)
    return sqnr_db(run(attention(form), given)["y"], run(made, given)["y"])


@every_form
def test_int8_is_as_close_as_without_a_mask(form: Form, tmp_path: Path) -> None:
    assert fidelity(form, quantized(form, tmp_path)) > (
        fidelity(NO_MASK, quantized(NO_MASK, tmp_path)) - 1
    )


@pytest.mark.parametrize("name", [name for name in FORMS if not name.startswith("added")])
def test_a_mask_that_no_sample_used_still_masks(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    assert fidelity(form, quantized(form, tmp_path, masked=False)) > 20


@every_form
def test_no_step_is_as_wide_as_a_mask(form: Form, tmp_path: Path) -> None:
    held = constants(quantized(form, tmp_path))
    assert max(array.max() for name, array in held.items() if name.endswith("_scale")) < 1


def test_what_stays_in_float_is_told(tmp_path: Path) -> None:
    place = Context(tmp_path, samples(FORMS["chosen -inf"]))
    apply_step(attention(FORMS["chosen -inf"]), StaticInt8(), place)
    told = "m and 1 more: it reads or makes a mask"
    assert place.notes == [f"static int8 leaves in float: {told}"]


def test_litert_runs_what_has_a_mask_of_the_least_float(tmp_path: Path) -> None:
    form = FORMS["scaled by float32's least"]
    made = quantized(form, tmp_path)
    lowered = get_runtime("litert").lower(made, tmp_path)
    given = feed(form, 5)
    with in_worker("litert", lowered, Execution(), tmp_path) as session:
        parts = [
            session.run({name: array[at : at + 1] for name, array in given.items()})["y"]
            for at in range(5)
        ]
    assert sqnr_db(run(attention(form), given)["y"], np.concatenate(parts)) > 25


# Which tensors hold one


def test_a_bias_before_a_softmax_is_no_mask() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Add", ["m", "b"], ["s"]),
        helper.make_node("Mul", ["s", "hot"], ["t"]),
        helper.make_node("Softmax", ["t"], ["y"]),
    ]
    held = {"w": np.full((4, 3), -200), "b": np.array([-3, 0, 9]), "hot": np.array(60)}
    weights = [numpy_helper.from_array(one.astype(np.float32), name) for name, one in held.items()]
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 3])], weights)
    assert masked_tensors(proto) == frozenset()
    assert before_softmax(proto) == {"m", "b", "s", "hot", "t"}


def test_a_large_negative_constant_that_leads_to_no_softmax_is_no_mask() -> None:
    nodes = [
        helper.make_node("Add", ["x", "low"], ["s"]),
        helper.make_node("MatMul", ["s", "w"], ["y"]),
    ]
    held = {"low": np.array(-1e4), "w": np.ones((4, 3))}
    weights = [numpy_helper.from_array(one.astype(np.float32), name) for name, one in held.items()]
    proto = model(nodes, [value("x", ["n", 4])], [value("y", ["n", 3])], weights)
    assert masked_tensors(proto) == frozenset()


@pytest.mark.parametrize(
    ("masks", "reaches_softmax", "found"),
    [
        ([-100.0], True, True),
        ([-100.0], False, False),
        ([-1e4], False, True),
        ([-1e4, -2e4], True, True),
        ([float(np.finfo(np.float32).min)], False, True),
        ([-np.inf], False, True),
        ([np.inf], False, True),
        ([-9.0], True, False),
        ([], True, False),
    ],
)
def test_values_far_below_all_others_are_seen_to_mask(
    masks: list[float], reaches_softmax: bool, found: bool
) -> None:
    scores = np.random.default_rng(0).normal(size=1000) * 3
    histogram = Histogram()
    histogram.add(np.concatenate([scores, masks]).astype(np.float32))
    assert holds_masks(histogram, reaches_softmax=reaches_softmax) == found


def test_a_tensor_of_masks_alone_is_seen_to_be_one() -> None:
    histogram = Histogram()
    histogram.add(np.array([0, -1e4, 0], np.float32))
    assert holds_masks(histogram, reaches_softmax=False)


def test_an_unbounded_clip_is_quantized_as_if_it_were_not_there(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Clip", ["m", "low", "high"], ["c"]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    held = {"w": np.eye(8) + 0.1, "low": np.array(-np.inf), "high": np.array(np.inf)}
    weights = [numpy_helper.from_array(one.astype(np.float32), name) for name, one in held.items()]
    proto = model(nodes, [value("x", ["n", 8])], [value("y", ["n", 8])], weights)
    x = np.random.default_rng(0).normal(size=(64, 8)).astype(np.float32)
    plain = model_from_proto(proto, "clip")
    made = apply_step(plain, StaticInt8(), Context(tmp_path, Samples({"x": x})))
    assert sqnr_db(run(plain, {"x": x})["y"], run(made, {"x": x})["y"]) > 30
    assert {"w_quantized"} <= set(constants(made))
