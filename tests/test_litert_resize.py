from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from litert_nets import Net, assert_same, assert_within_a_step, kinds

SIZES = [(12, 10), (7, 9), (3, 2), (6, 15)]


def _resized(net: Net, value: str, sizes: tuple[int, int], **attributes: Any) -> str:
    scales = np.array([1, 1, sizes[0] / 6, sizes[1] / 5], np.float32)
    return net.add("Resize", value, "", net.constant(scales), **attributes)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    ("coordinates", "rounding"),
    list(
        product(
            ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"],
            ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"],
        )
    ),
)
def test_the_nearest_element_is_that_of_onnx_runtime(
    sizes: tuple[int, int], coordinates: str, rounding: str
) -> None:
    net = Net({"x": [2, 6, 5]})
    made = _resized(
        net, "x", sizes, coordinate_transformation_mode=coordinates, nearest_mode=rounding
    )
    assert_same(net, made, batches=[2])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("antialias", [0, 1])
@pytest.mark.parametrize(
    "coordinates", ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
)
def test_interpolation_is_that_of_onnx_runtime(
    sizes: tuple[int, int], mode: str, antialias: int, coordinates: str
) -> None:
    net = Net({"x": [2, 6, 5]})
    made = _resized(
        net,
        "x",
        sizes,
        mode=mode,
        coordinate_transformation_mode=coordinates,
        antialias=antialias,
    )
    assert_same(net, made, batches=[2])


@pytest.mark.parametrize(
    ("attributes", "kind"),
    [
        ({"mode": "linear"}, "RESIZE_BILINEAR"),
        (
            {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
            "RESIZE_BILINEAR",
        ),
        (
            {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
            "RESIZE_NEAREST_NEIGHBOR",
        ),
    ],
)
def test_what_decoders_do_is_one_builtin_operator(attributes: dict[str, Any], kind: str) -> None:
    net = Net({"x": [3, 6, 5]})
    made = _resized(net, net.add("Conv", "x", net.weights(4, 3, 1, 1)), (12, 10), **attributes)
    lowering = assert_same(net, net.add("Conv", made, net.weights(2, 4, 1, 1)))
    assert kinds(lowering) == ["TRANSPOSE", "CONV_2D", kind, "CONV_2D", "TRANSPOSE"]


def test_upsample_is_the_resize_of_old() -> None:
    net = Net({"x": [3, 6, 5]}, opset=9)
    scales = net.constant(np.array([1, 1, 2, 3], np.float32))
    assert_same(net, net.add("Upsample", "x", scales, mode="nearest"), batches=[1])


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_quantized_resize_keeps_to_integers(mode: str) -> None:
    net = Net({"x": [4, 6, 5]})
    made = _resized(net, net.paired("x", 0.03, 5), (12, 10), mode=mode)
    lowering = assert_within_a_step(net, net.paired(made, 0.03, 5), 0.03)
    assert kinds(lowering).count("DEQUANTIZE") == 1


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_channels_become_places_behind_a_convolution(mode: str) -> None:
    net = Net({"x": [3, 6, 5]})
    made = net.add("Conv", "x", net.weights(12, 3, 1, 1))
    assert_same(net, net.add("DepthToSpace", made, blocksize=2, mode=mode))


def test_places_become_channels_of_quantized_images() -> None:
    net = Net({"x": [3, 6, 4]})
    made = net.add("SpaceToDepth", net.paired("x", 0.03, 5), blocksize=2)
    made = net.paired(made, 0.03, 5)
    lowering = assert_within_a_step(net, made, 0.03)
    assert [kind for kind in kinds(lowering) if "QUANT" in kind] == ["QUANTIZE", "DEQUANTIZE"]
