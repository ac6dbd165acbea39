"""Normalisation in the graph: pixels in, the same answers out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from hasten.compress import Context, FoldInput, apply_step
from hasten.compress.fold_input import fold_input, normalised_tensor, pixel_range
from hasten.data import Preprocessing
from hasten.data.preprocessing import Colour, Layout
from hasten.errors import RefusedError
from hasten.graph import AppliedStep, Model, Signature, TensorSpec
from hasten.runtimes.saturation import saturates
from hasten.runtimes.vendor import cpu_flags


class Kind(TypedDict, total=False):
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colour: Colour


_IMAGENET: Kind = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_LITE: Kind = {"mean": (127 / 255,) * 3, "std": (128 / 255,) * 3}
_GRAY: Kind = {"mean": (0.1307,), "std": (0.3081,), "colour": "gray"}
_KINDS: dict[str, Kind] = {
    "lite": _LITE,
    "imagenet": _IMAGENET,
    "whole zero points": {"mean": (0.0, 51 / 255, 1.0), "std": (0.5, 0.25, 1.0)},
    "one std": {"mean": (0.485, 0.456, 0.406), "std": (0.226,) * 3},
    "outside": {"mean": (-0.2, 1.5, 0.5), "std": (1.0, 1.0, 0.01)},
    "inverted": {"mean": (1.0,) * 3, "std": (-1.0,) * 3},
    "plain": {},
    "no mean": {"std": (0.229, 0.224, 0.225)},
    "gray": _GRAY,
}
every_kind = pytest.mark.parametrize("kind", _KINDS)
every_layout = pytest.mark.parametrize("layout", ["nchw", "nhwc"])


def declared(kind: str = "lite", layout: Layout = "nchw") -> Preprocessing:
    return Preprocessing((6, 8), layout=layout, **_KINDS[kind])


def tap(preprocessing: Preprocessing, *, opset: int = 17, dtype: int = TensorProto.FLOAT) -> Model:
    """A model that hands out its input as it is and its ReLU."""
    nodes = [
        helper.make_node("Identity", ["image"], ["same"]),
        helper.make_node("Relu", ["image"], ["positive"]),
    ]
    shape: list[str | int] = ["batch", *preprocessing.input_shape]
    outputs = [helper.make_tensor_value_info(name, dtype, shape) for name in ("same", "positive")]
    return model_of(nodes, shape, outputs, opset=opset, dtype=dtype)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[str | int],
    outputs: Sequence[onnx.ValueInfoProto],
    *,
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
    initializers: Sequence[onnx.TensorProto] = (),
) -> Model:
    value = helper.make_tensor_value_info("image", dtype, shape)
    graph = helper.make_graph(nodes, "graph", [value], outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    free = tuple(dim if isinstance(dim, int) else None for dim in shape)
    name = np.dtype(helper.tensor_dtype_to_np_dtype(dtype)).name
    signature = Signature(
        (TensorSpec("image", name, free),),
        tuple(TensorSpec(output.name, name, ()) for output in outputs),
    )
    return Model("tap", proto, signature)


def run(model: Model, image: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.payload, options)
    return list(session.run(None, {"image": image}))


def pixels_for(preprocessing: Preprocessing, count: int = 5) -> np.ndarray:
    shape = (count, *preprocessing.pixel_shape)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels[0], pixels[1] = 0, 255
    return pixels


@every_kind
@every_layout
def test_the_folded_model_answers_like_the_float_path(kind: str, layout: Layout) -> None:
    preprocessing = declared(kind, layout)
    model, pixels = tap(preprocessing), pixels_for(preprocessing)
    folded = fold_input(model, {"image": preprocessing})
    low, high = pixel_range(preprocessing)
    expected = run(model, preprocessing.apply(pixels))
    for got, want in zip(run(folded, pixels), expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * (high - low))


@every_kind
def test_the_pixel_range_is_what_pixels_can_reach(kind: str) -> None:
    preprocessing = declared(kind)
    floats = preprocessing.apply(pixels_for(preprocessing))
    np.testing.assert_allclose(
        pixel_range(preprocessing), (floats.min(), floats.max()), rtol=1e-5, atol=1e-6
    )


@every_layout
def test_the_input_becomes_bytes_channels_last_under_its_own_name(layout: Layout) -> None:
    preprocessing = declared(layout=layout)
    folded = fold_input(tap(preprocessing), {"image": preprocessing})
    assert str(folded.signature.input("image")) == "image: uint8[?,6,8,3]"


def test_the_free_batch_dimension_keeps_its_name() -> None:
    folded = fold_input(tap(declared()), {"image": declared()})
    dims = folded.graph.graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", 6, 8, 3]


def test_the_folded_graph_is_valid_onnx() -> None:
    folded = fold_input(tap(declared("imagenet")), {"image": declared("imagenet")})
    onnx.checker.check_model(folded.graph, full_check=True)


@pytest.mark.parametrize(
    ("kind", "layout", "kinds"),
    [
        ("lite", "nchw", ["Transpose", "DequantizeLinear"]),
        ("lite", "nhwc", ["DequantizeLinear"]),
        ("imagenet", "nchw", ["Transpose", "DequantizeLinear", "Sub"]),
        ("imagenet", "nhwc", ["DequantizeLinear", "Sub"]),
    ],
)
def test_as_few_operators_as_the_numbers_allow(kind: str, layout: Layout, kinds: list[str]) -> None:
    preprocessing = declared(kind, layout)
    folded = fold_input(tap(preprocessing), {"image": preprocessing})
    assert [node.op_type for node in folded.graph.graph.node[:-2]] == kinds


def test_pixels_with_a_whole_zero_point_are_a_quantized_tensor_as_they_are() -> None:
    folded = fold_input(tap(declared("lite")), {"image": declared("lite")})
    constants = {
        tensor.name: numpy_helper.to_array(tensor) for tensor in folded.graph.graph.initializer
    }
    low, high = pixel_range(declared("lite"))
    assert constants["image_pixels_zero_point"] == np.uint8(127)
    assert constants["image_pixels_scale"] == np.float32((high - low) / 255)


def quantized(folded: Model, pixels: np.ndarray, folder: Path) -> Model:
    """The folded model after ONNX Runtime's own QDQ writer."""
    reader = iter([{"image": pixels}])

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(reader, None)

    target = folder / "int8.onnx"
    quantize_static(
        folded.graph,
        str(target),
        Reader(),
        per_channel=True,
        reduce_range=saturates(cpu_flags()),  # it is the fold that is tested, not the processor
    )
    return Model("int8", onnx.load(target), folded.signature)


def convolution(preprocessing: Preprocessing) -> Model:
    weights = np.random.default_rng(1).standard_normal((8, preprocessing.channels, 3, 3))
    kernel = numpy_helper.from_array(weights.astype(np.float32), "kernel")
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 8, 4, 6])
    node = helper.make_node("Conv", ["image", "kernel"], ["out"])
    return model_of([node], ["batch", *preprocessing.input_shape], [out], initializers=[kernel])


@every_kind
def test_the_qdq_writer_takes_the_folded_model(kind: str, tmp_path: Path) -> None:
    preprocessing = declared(kind)
    pixels = pixels_for(preprocessing)
    folded = fold_input(convolution(preprocessing), {"image": preprocessing})
    (want,), (got,) = run(folded, pixels), run(quantized(folded, pixels, tmp_path), pixels)
    assert np.square(got - want).sum() < 1e-3 * np.square(want).sum()


def test_with_a_whole_zero_point_the_convolution_takes_the_pixels_as_they_are(
    tmp_path: Path,
) -> None:
    folded = fold_input(convolution(declared("lite")), {"image": declared("lite")})
    graph = quantized(folded, pixels_for(declared("lite")), tmp_path).graph.graph
    (conv,) = [node for node in graph.node if node.op_type == "Conv"]
    (source,) = [node for node in graph.node if conv.input[0] in node.output]
    assert source.op_type == "DequantizeLinear"
    assert source.input[0] == "image_pixels_transpose"


def test_the_normalised_tensor_carries_its_promised_name() -> None:
    folded = fold_input(tap(declared("imagenet")), {"image": declared("imagenet")})
    assert folded.graph.graph.node[2].output == [normalised_tensor("image")]


def test_the_given_model_is_left_as_it_was() -> None:
    model = tap(declared())
    before = model.graph.SerializeToString(deterministic=True)
    fold_input(model, {"image": declared()})
    assert model.graph.SerializeToString(deterministic=True) == before


def test_the_step_folds_what_the_samples_declare(tmp_path: Path) -> None:
    context = Context(scratch=tmp_path, preprocessing={"image": declared()})
    folded = apply_step(tap(declared()), FoldInput(), context)
    assert folded.steps == (AppliedStep("fold_input"),)


def test_an_input_that_is_not_declared_stays_as_it_is() -> None:
    nodes = [helper.make_node("Mul", ["image", "gain"], ["out"])]
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    model = model_of(nodes, [1, 3, 6, 8], [out])
    gain = helper.make_tensor_value_info("gain", TensorProto.FLOAT, [1])
    model.graph.graph.input.append(gain)
    inputs = (*model.signature.inputs, TensorSpec("gain", "float32", (1,)))
    model = Model("two", model.content, Signature(inputs, model.signature.outputs))
    folded = fold_input(model, {"image": declared()})
    assert folded.signature.input("gain") == TensorSpec("gain", "float32", (1,))


def test_no_declared_preprocessing_is_refused() -> None:
    with pytest.raises(RefusedError, match="no preprocessing is declared"):
        fold_input(tap(declared()), {})


def test_a_tflite_file_is_refused() -> None:
    model = Model("lite", b"TFL3", tap(declared()).signature)
    with pytest.raises(RefusedError, match=r"\.tflite"):
        fold_input(model, {"image": declared()})


def test_an_old_opset_is_refused() -> None:
    with pytest.raises(RefusedError, match="opset 13 or later, the model has 11"):
        fold_input(tap(declared(), opset=11), {"image": declared()})


def test_an_input_the_model_lacks_is_refused_with_those_it_has() -> None:
    with pytest.raises(RefusedError, match="no input 'picture', it has image"):
        fold_input(tap(declared()), {"picture": declared()})


def test_an_input_of_another_dtype_is_refused() -> None:
    model = tap(declared(), dtype=TensorProto.FLOAT16)
    with pytest.raises(RefusedError, match="float32 of rank 4, not image: float16"):
        fold_input(model, {"image": declared()})


def test_an_input_of_another_rank_is_refused() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    model = model_of([helper.make_node("Relu", ["image"], ["out"])], ["n", 64], [out])
    with pytest.raises(RefusedError, match="rank 4"):
        fold_input(model, {"image": declared()})


def test_other_channels_than_declared_are_refused() -> None:
    with pytest.raises(RefusedError, match="gray has 1 channels"):
        fold_input(tap(declared("lite")), {"image": declared("gray")})


def test_folding_twice_is_refused() -> None:
    folded = fold_input(tap(declared()), {"image": declared()})
    with pytest.raises(RefusedError, match="not image: uint8"):
        fold_input(folded, {"image": declared()})


def test_an_input_used_inside_control_flow_is_refused() -> None:
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    branch = helper.make_graph([helper.make_node("Relu", ["image"], ["out"])], "branch", [], [out])
    condition = numpy_helper.from_array(np.array(True), "yes")
    node = helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch)
    model = model_of([node], [1, 3, 6, 8], [out], initializers=[condition])
    with pytest.raises(RefusedError, match="inside control flow"):
        fold_input(model, {"image": declared()})


def test_an_input_that_is_itself_an_output_is_refused() -> None:
    model = tap(declared())
    model.graph.graph.output.append(model.graph.graph.input[0])
    with pytest.raises(RefusedError, match="itself an output"):
        fold_input(model, {"image": declared()})


def test_a_tensor_name_that_is_taken_is_refused() -> None:
    out = helper.make_tensor_value_info("image_normalised", TensorProto.FLOAT, None)
    node = helper.make_node("Relu", ["image"], ["image_normalised"])
    model = model_of([node], [1, 3, 6, 8], [out])
    with pytest.raises(RefusedError, match="already has a tensor 'image_normalised'"):
        fold_input(model, {"image": declared()})
