"""LiteRT for graphs from ONNX: what it writes, what it refuses, and how it runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from onnx import TensorProto, helper

from command_line import Done, hasten
from hasten.bundle import Bundle
from hasten.compress import Context, WeightInt8, apply_step
from hasten.errors import RefusedError, RuntimeFailureError
from hasten.graph import Model, model_from_proto, read_tflite
from hasten.runtimes import Execution, Hint, get_runtime
from nets import conv_net, images
from onnx_models import branching, model, run, value, weight
from tflite_models import add_model, packed

LITERT = "litert"


def net() -> Model:
    return model_from_proto(conv_net(), "net")


def fixed_net() -> Model:
    """x[n,4] plus ones of its shape: a constant for each batch, so the batch has to be fixed."""
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    proto = model(
        [
            helper.make_node("Shape", ["x"], ["shape"], name="shape"),
            helper.make_node("ConstantOfShape", ["shape"], ["ones"], name="ones", value=one),
            helper.make_node("Add", ["x", "ones"], ["y"], name="sum"),
        ],
        [value("x", ["n", 4])],
        [value("y", ["n", 4])],
        [],
    )
    return model_from_proto(proto, "fixed")


def outputs(net: Model, folder: Path, execution: Execution, hint: Hint = "default") -> np.ndarray:
    runtime = get_runtime(LITERT)
    session = runtime.open(runtime.lower(net, folder, hint), execution)
    found = session.run({"x": images(3)})["y"]
    session.close()
    return found


# What is written


def test_a_graph_is_written_as_a_tflite_with_its_signature(tmp_path: Path) -> None:
    found = get_runtime(LITERT).lower(net(), tmp_path)
    assert found.format == "tflite"
    assert found.signature == net().signature
    assert read_tflite(found.path).signature.inputs[0].shape == (None, 3, 12, 12)


def test_a_graph_is_lowered_once(tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    first = runtime.lower(net(), tmp_path)
    written_ns = Path(first.path).stat().st_mtime_ns
    assert get_runtime(LITERT).lower(net(), tmp_path) == first
    assert Path(first.path).stat().st_mtime_ns == written_ns


def test_nodes_are_named_in_the_order_of_the_files_operators(tmp_path: Path) -> None:
    nodes = get_runtime(LITERT).lower(net(), tmp_path).nodes
    assert list(dict.fromkeys(nodes)) == [
        f"output {n}" for n in ("c1", "c2", "pooled", "flat", "y")
    ]


def test_half_weights_halve_the_file_and_hardly_change_the_outputs(tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    whole, half = (runtime.lower(net(), tmp_path, hint) for hint in ("default", "f16"))
    assert half.size_bytes < 0.75 * whole.size_bytes
    found = outputs(net(), tmp_path, Execution(hint="f16"), "f16")
    np.testing.assert_allclose(found, run(net(), {"x": images(3)})["y"], rtol=1e-2, atol=1e-3)


def test_weights_beyond_the_range_of_float16_are_not_halved(tmp_path: Path) -> None:
    proto = conv_net()
    huge = onnx.numpy_helper.from_array(np.full((16, 16, 3, 3), 7e4, np.float32), "w2")
    kept = [one for one in proto.graph.initializer if one.name != "w2"]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([*kept, huge])
    with pytest.raises(RefusedError, match=r"w2 of node output c2 reach 70000, float16 65504"):
        get_runtime(LITERT).lower(model_from_proto(proto, "huge"), tmp_path, "f16")


def test_there_is_nothing_to_halve_in_a_graph_of_int8_weights(tmp_path: Path) -> None:
    int8 = apply_step(net(), WeightInt8(), Context(tmp_path))
    with pytest.raises(RefusedError, match="no float32 weights"):
        get_runtime(LITERT).lower(int8, tmp_path, "f16")


# What is refused


def test_every_node_without_an_equal_is_named_at_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Det", ["x"], ["a"], name="first"),
        helper.make_node("StringNormalizer", ["s"], ["t"], name="second"),
    ]
    inputs = [value("x", [2, 3, 3]), value("s", [2], TensorProto.STRING)]
    proto = model(nodes, inputs, [value("a", [2]), value("t", [2], TensorProto.STRING)])
    refusing = model_from_proto(proto, "odd")
    for _ in range(2):  # the second time it is remembered
        with pytest.raises(RefusedError, match=r"Det \(node first\).*StringNormalizer.*second"):
            get_runtime(LITERT).lower(refusing, tmp_path)


def test_branches_are_refused_before_anything_is_lowered() -> None:
    (reason,) = get_runtime(LITERT).supports(model_from_proto(branching(), "net"))
    assert "If (node choose)" in reason


def test_a_custom_operator_without_a_registerer_is_named_in_one_line(tmp_path: Path) -> None:
    made = schema.ModelT.InitFromObj(schema.Model.GetRootAs(add_model()))
    made.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
    made.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    made.operatorCodes[0].customCode = "FancyAdd"
    made.subgraphs[0].operators[0].builtinOptionsType = 0
    made.subgraphs[0].operators[0].builtinOptions = None
    (tmp_path / "custom.tflite").write_bytes(packed(made))
    runtime = get_runtime(LITERT)
    lowered = runtime.lower(read_tflite(tmp_path / "custom.tflite"), tmp_path)
    with pytest.raises(RuntimeFailureError, match="FancyAdd") as caught:
        runtime.open(lowered, Execution())
    assert "\n" not in str(caught.value)


# How it runs


@pytest.mark.parametrize(
    "execution",
    [
        Execution(),
        Execution(threads=2),
        Execution(delegate="none"),
        Execution(instances=2),
    ],
    ids=str,
)
def test_every_way_to_run_it_gives_the_outputs_of_the_graph(
    execution: Execution, tmp_path: Path
) -> None:
    found = outputs(net(), tmp_path, execution)
    np.testing.assert_allclose(found, run(net(), {"x": images(3)})["y"], rtol=1e-4, atol=1e-5)


def test_instances_that_share_weights_take_changing_batches_and_keep_to_themselves(
    tmp_path: Path,
) -> None:
    runtime = get_runtime(LITERT)
    lowered = runtime.lower(net(), tmp_path)
    sessions = [runtime.open(lowered, Execution(instances=2)) for _ in range(2)]
    for batch in (1, 3, 2):
        feeds = [images(6)[at : at + batch] for at in (0, 3)]
        found = [one.run({"x": feed})["y"] for one, feed in zip(sessions, feeds, strict=True)]
        for feed, y in zip(feeds, found, strict=True):
            np.testing.assert_allclose(y, run(net(), {"x": feed})["y"], rtol=1e-4, atol=1e-5)
    for session in sessions:
        session.close()


def test_a_file_that_was_changed_is_not_run_with_the_weights_it_had(tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    other = model_from_proto(
        model(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [value("x", ["n", 4])],
            [value("y", ["n", 3])],
            [weight("w", 4, 3, seed=1)],
        ),
        "other",
    )
    first = model_from_proto(
        model(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [value("x", ["n", 4])],
            [value("y", ["n", 3])],
            [weight("w", 4, 3, seed=0)],
        ),
        "first",
    )
    lowered = runtime.lower(first, tmp_path)
    x = np.ones((1, 4), np.float32)
    for net in (first, other):
        content = Path(runtime.lower(net, tmp_path / "..").path).read_bytes()
        Path(lowered.path).write_bytes(content)
        session = runtime.open(lowered, Execution(instances=2))
        np.testing.assert_allclose(session.run({"x": x})["y"], run(net, {"x": x})["y"], rtol=1e-5)
        session.close()


def test_a_device_that_it_does_not_know_is_a_failure_of_one_line(tmp_path: Path) -> None:
    runtime = get_runtime(LITERT)
    with pytest.raises(RuntimeFailureError, match="runs nothing on device npu"):
        runtime.open(runtime.lower(net(), tmp_path), Execution(device="npu"))


# In a race


@pytest.fixture(scope="module")
def raced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A network optimised for LiteRT alone; it starts in ONNX Runtime."""
    folder = tmp_path_factory.mktemp("litert")
    onnx.save(conv_net(), folder / "net.onnx")
    np.savez(folder / "data.npz", x=images(24))
    done = hasten(
        *("optimize", folder / "net.onnx", "--data", folder / "data.npz", "--max-drop", "1"),
        *("--runtime", LITERT, "--threads", 1, "--time", "18s", "--json"),
        *("--out", folder / "net.hasten"),
    )
    return done, folder / "net.hasten"


def candidates(done: Done) -> list[dict[str, object]]:
    assert done.status == 0, done.err
    found: list[dict[str, object]] = done.document["evidence"]["candidates"]
    return [one for one in found if one["runtime"] == LITERT]


def test_float_int8_halved_and_plain_kernels_are_all_raced(raced: tuple[Done, Path]) -> None:
    timed = [one for one in candidates(raced[0]) if one["latency_ms"]]
    executions = [one["execution"] for one in timed]
    assert any(one["hint"] == "f16" for one in executions)  # type: ignore[index]
    steps = {step["step"] for one in timed for step in one["steps"]}  # type: ignore[attr-defined]
    assert "static_int8" in steps


def test_the_builtin_kernels_are_one_plan_a_chain(raced: tuple[Done, Path]) -> None:
    plain = [
        json.dumps(one["steps"])
        for one in candidates(raced[0])
        if one["execution"]["delegate"] == "none"  # type: ignore[index]
    ]
    assert len(plain) == len(set(plain))


def test_the_bundle_of_a_plan_holds_the_tflite_that_won(raced: tuple[Done, Path]) -> None:
    done, path = raced
    document = done.document
    assert document["plan"]["runtime"] in {LITERT, "onnxruntime"}
    if document["plan"]["runtime"] == LITERT:
        assert document["artifact"]["file"] == "1/model.tflite"
        assert 'backend: "tflite"' in (path / "config.pbtxt").read_text()
    with Bundle.open(path) as bundle:
        assert bundle.run({"x": images(2)})["y"].shape == (2, 10)


def test_a_batch_that_had_to_be_fixed_is_in_the_signature_and_bars_larger_ones(
    tmp_path: Path,
) -> None:
    found = get_runtime(LITERT).lower(fixed_net(), tmp_path)
    assert found.signature.batch == 1
