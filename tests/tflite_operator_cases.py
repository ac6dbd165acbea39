"""Files of one operator each, as converters write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tflite_one_operator import (
    binary,
    convolution,
    floats,
    several,
    sliced,
    transposed,
    unary,
    with_constants,
)

__all__ = ["CASES"]

CONV, DEPTHWISE, POOL = "Conv2DOptions", "DepthwiseConv2DOptions", "Pool2DOptions"
STEP: dict[str, Any] = {"strideH": 1, "strideW": 1}
TWO: dict[str, Any] = {"strideH": 2, "strideW": 2}
IMAGE = (1, 5, 6, 8)

CASES: dict[str, Callable[[], bytes]] = {
    **{
        kind.lower(): unary(kind)
        for kind in (
            "ABS",
            "CEIL",
            "COS",
            "ELU",
            "EXP",
            "FLOOR",
            "HARD_SWISH",
            "LOGISTIC",
            "LOG_SOFTMAX",
            "NEG",
            "RELU",
            "RELU6",
            "RELU_N1_TO_1",
            "RELU_0_TO_1",
            "ROUND",
            "SIGN",
            "SIN",
            "SQUARE",
            "TANH",
            "ZEROS_LIKE",
        )
    },
    "log": unary("LOG"),
    "sqrt": unary("SQRT"),
    "rsqrt": unary("RSQRT"),
    "gelu": unary("GELU", "GeluOptions", approximate=False),
    "gelu_tanh": unary("GELU", "GeluOptions", approximate=True),
    "leaky_relu": unary("LEAKY_RELU", "LeakyReluOptions", alpha=0.3),
    "softmax": unary("SOFTMAX", "SoftmaxOptions", beta=1.0),
    "softmax_beta": unary("SOFTMAX", "SoftmaxOptions", beta=0.5),
    "l2_normalization": unary("L2_NORMALIZATION", "L2NormOptions", IMAGE),
    "prelu": with_constants("PRELU", IMAGE, [floats(1, 1, 8)], IMAGE),
    "lrn": unary(
        "LOCAL_RESPONSE_NORMALIZATION",
        "LocalResponseNormalizationOptions",
        IMAGE,
        radius=2,
        bias=1.0,
        alpha=0.3,
        beta=0.5,
    ),
    **{
        kind.lower(): binary(kind, table)
        for kind, table in (
            ("ADD", "AddOptions"),
            ("SUB", "SubOptions"),
            ("MUL", "MulOptions"),
            ("DIV", "DivOptions"),
            ("MAXIMUM", ""),
            ("MINIMUM", ""),
            ("SQUARED_DIFFERENCE", ""),
            ("FLOOR_DIV", ""),
            ("FLOOR_MOD", ""),
        )
    },
    **{
        kind.lower(): binary(kind, "", ("float32", "bool"))
        for kind in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")
    },
    **{
        f"{kind.lower()}_int32": binary(kind, "", ("int32", "int32"))
        for kind in ("FLOOR_DIV", "FLOOR_MOD", "MAXIMUM")
    },
    "logical_and": binary("LOGICAL_AND", "", ("bool", "bool")),
    "logical_or": binary("LOGICAL_OR", "", ("bool", "bool")),
    "atan2": binary("ATAN2", shapes=((2, 3), (2, 3))),
    "add_relu": binary("ADD", "AddOptions", fusedActivationFunction=1),
    "mul_relu_n1_to_1": binary("MUL", "MulOptions", fusedActivationFunction=2),
    "sub_relu6": binary("SUB", "SubOptions", fusedActivationFunction=3),
    "conv_same": convolution(
        "CONV_2D", (6, 3, 3, 4), (1, 5, 4, 6), CONV, **TWO, padding=0, fusedActivationFunction=3
    ),
    "conv_valid": convolution("CONV_2D", (6, 3, 2, 4), (1, 7, 7, 6), CONV, **STEP, padding=1),
    "conv_dilated": convolution(
        "CONV_2D",
        (6, 3, 3, 4),
        (1, 9, 8, 6),
        CONV,
        **STEP,
        padding=0,
        dilationHFactor=2,
        dilationWFactor=2,
    ),
    "conv_grouped": convolution("CONV_2D", (6, 3, 3, 2), (1, 9, 8, 6), CONV, **STEP, padding=0),
    "depthwise": convolution(
        "DEPTHWISE_CONV_2D",
        (1, 3, 3, 4),
        (1, 9, 8, 4),
        DEPTHWISE,
        **STEP,
        padding=0,
        depthMultiplier=1,
    ),
    "depthwise_multiplier": convolution(
        "DEPTHWISE_CONV_2D",
        (1, 3, 3, 8),
        (1, 5, 4, 8),
        DEPTHWISE,
        **TWO,
        padding=0,
        depthMultiplier=2,
    ),
    "conv_3d": convolution(
        "CONV_3D",
        (2, 3, 3, 4, 5),
        (1, 4, 5, 6, 5),
        "Conv3DOptions",
        (1, 4, 5, 6, 4),
        **STEP,
        strideD=1,
        padding=0,
    ),
    "transpose_conv_same": transposed(0, (1, 10, 8, 3), 3, 2),
    "transpose_conv_valid": transposed(1, (1, 11, 9, 3), 3, 2),
    "average_pool": with_constants(
        "AVERAGE_POOL_2D",
        IMAGE,
        [],
        (1, 3, 3, 8),
        POOL,
        **TWO,
        filterHeight=3,
        filterWidth=3,
        padding=0,
    ),
    "max_pool": with_constants(
        "MAX_POOL_2D",
        IMAGE,
        [],
        (1, 2, 3, 8),
        POOL,
        **TWO,
        filterHeight=2,
        filterWidth=2,
        padding=1,
    ),
    "l2_pool": with_constants(
        "L2_POOL_2D", IMAGE, [], (1, 3, 3, 8), POOL, **TWO, filterHeight=2, filterWidth=2, padding=0
    ),
    "fully_connected": with_constants(
        "FULLY_CONNECTED",
        (2, 8),
        [floats(5, 8), floats(5)],
        (2, 5),
        "FullyConnectedOptions",
        fusedActivationFunction=1,
    ),
    "fully_connected_flat": with_constants(
        "FULLY_CONNECTED", (2, 3, 4), [floats(5, 12)], (2, 5), "FullyConnectedOptions"
    ),
    "fully_connected_wide": with_constants(
        "FULLY_CONNECTED",
        (2, 3, 4),
        [floats(5, 4), floats(5)],
        (2, 3, 5),
        "FullyConnectedOptions",
        keepNumDims=True,
    ),
    "batch_matmul": with_constants(
        "BATCH_MATMUL", (2, 3, 4), [floats(2, 5, 4)], (2, 3, 5), "BatchMatMulOptions", adjY=True
    ),
    "mean": with_constants("MEAN", IMAGE, [[1, 2]], (1, 8), "ReducerOptions", keepDims=False),
    "mean_kept": with_constants(
        "MEAN", IMAGE, [[1, 2]], (1, 1, 1, 8), "ReducerOptions", keepDims=True
    ),
    "sum": with_constants("SUM", (2, 3, 4), [[-1]], (2, 3), "ReducerOptions", keepDims=False),
    "reduce_max": with_constants(
        "REDUCE_MAX", (2, 3, 4), [[0, 2]], (1, 3, 1), "ReducerOptions", keepDims=True
    ),
    "reduce_min": with_constants(
        "REDUCE_MIN", (2, 3, 4), [[1]], (2, 4), "ReducerOptions", keepDims=False
    ),
    "reduce_prod": with_constants(
        "REDUCE_PROD", (2, 3, 4), [[1]], (2, 4), "ReducerOptions", keepDims=False
    ),
    "reduce_any": with_constants(
        "REDUCE_ANY",
        (2, 3, 4),
        [[1]],
        (2, 4),
        "ReducerOptions",
        keepDims=False,
        dtypes=("bool", "bool"),
    ),
    "reduce_all": with_constants(
        "REDUCE_ALL",
        (2, 3, 4),
        [[1]],
        (2, 4),
        "ReducerOptions",
        keepDims=False,
        dtypes=("bool", "bool"),
    ),
    "arg_max": with_constants(
        "ARG_MAX",
        (2, 3, 4),
        [np.int32(1)],
        (2, 4),
        "ArgMaxOptions",
        dtypes=("float32", "int32"),
        outputType=2,
    ),
    "arg_min": with_constants(
        "ARG_MIN",
        (2, 3, 4),
        [np.int32(-1)],
        (2, 3),
        "ArgMinOptions",
        dtypes=("float32", "int64"),
        outputType=4,
    ),
    "cumsum": with_constants(
        "CUMSUM", (2, 3, 4), [np.int32(1)], (2, 3, 4), "CumsumOptions", exclusive=True, reverse=True
    ),
    "top_k": several(
        "TOPK_V2",
        (3, 6),
        [(3, 2), (3, 2)],
        "TopKV2Options",
        before=[],
        after=[np.int32(2)],
        dtypes=("float32", "int32"),
    ),
    "reshape": with_constants(
        "RESHAPE", (2, 3, 4), [[4, 6]], (4, 6), "ReshapeOptions", newShape=[4, 6]
    ),
    "reshape_by_option": with_constants(
        "RESHAPE", (2, 3, 4), [], (4, 6), "ReshapeOptions", newShape=[4, 6]
    ),
    "squeeze": with_constants(
        "SQUEEZE", (1, 3, 1, 4), [], (3, 1, 4), "SqueezeOptions", squeezeDims=[0]
    ),
    "squeeze_all": with_constants(
        "SQUEEZE", (1, 3, 1, 4), [], (3, 4), "SqueezeOptions", squeezeDims=[]
    ),
    "expand_dims": with_constants("EXPAND_DIMS", (2, 3), [np.int32(-1)], (2, 3, 1)),
    "transpose": with_constants("TRANSPOSE", (2, 3, 4), [[2, 0, 1]], (4, 2, 3)),
    "concatenation": with_constants(
        "CONCATENATION", (2, 3, 4), [floats(2, 1, 4)], (2, 4, 4), "ConcatenationOptions", axis=1
    ),
    "pack": with_constants(
        "PACK", (3, 4), [floats(3, 4)], (3, 2, 4), "PackOptions", axis=1, valuesCount=2
    ),
    "unpack": several(
        "UNPACK", (2, 3), [(2,), (2,), (2,)], "UnpackOptions", before=[], after=[], axis=1, num=3
    ),
    "split": several(
        "SPLIT",
        (2, 6),
        [(2, 3), (2, 3)],
        "SplitOptions",
        before=[np.int32(1)],
        after=[],
        numSplits=2,
    ),
    "split_v": several(
        "SPLIT_V",
        (2, 6),
        [(2, 1), (2, 5)],
        "SplitVOptions",
        before=[],
        after=[[1, -1], np.int32(1)],
        numSplits=2,
    ),
    "slice": with_constants("SLICE", (4, 5, 6), [[1, 0, 2], [2, -1, 3]], (2, 5, 3)),
    "strided_slice": sliced((2, 5, 3), [1, 0, 0], [3, 5, 6], [1, 1, 2]),
    "strided_slice_masks": sliced(
        (2, 5, 6), [0, 1, 0], [2, 2, 1], [1, 1, 1], beginMask=2, endMask=6
    ),
    "strided_slice_shrink": sliced((5, 2), [-1, 0, 1], [0, 5, 3], [1, 1, 1], shrinkAxisMask=1),
    "strided_slice_back": sliced((4, 5, 6), [0, 4, 0], [4, 0, 6], [1, -1, 1], endMask=2),
    "strided_slice_ellipsis": sliced((4, 5, 2), [0, 1], [0, 3], [1, 1], ellipsisMask=1),
    "strided_slice_new_axis": sliced((4, 1, 5, 6), [0, 0, 0], [4, 0, 5], [1, 1, 1], newAxisMask=2),
    "gather": with_constants("GATHER", (4, 5, 6), [[2, 0, 1]], (4, 3, 6), "GatherOptions", axis=1),
    "gather_batches": with_constants(
        "GATHER", (2, 5, 6), [[[2, 0], [1, 4]]], (2, 2, 6), "GatherOptions", axis=1, batchDims=1
    ),
    "gather_nd": with_constants("GATHER_ND", (4, 5, 6), [[[0, 1], [3, 4]]], (2, 6)),
    "scatter_nd": several(
        "SCATTER_ND", (3, 4), [(5, 4)], "", before=[[[0], [4], [0]]], after=[[5, 4]]
    ),
    "pad": with_constants("PAD", IMAGE, [[[0, 0], [1, 2], [0, 1], [0, 0]]], (1, 8, 7, 8)),
    "padv2": with_constants("PADV2", (2, 3), [[[0, 1], [1, 0]], np.float32(2.5)], (3, 4)),
    "mirror_pad_reflect": with_constants(
        "MIRROR_PAD", (3, 4), [[[1, 2], [0, 1]]], (6, 5), "MirrorPadOptions", mode=0
    ),
    "mirror_pad_symmetric": with_constants(
        "MIRROR_PAD", (3, 4), [[[1, 2], [0, 1]]], (6, 5), "MirrorPadOptions", mode=1
    ),
    **{
        f"resize_{mode}{name}": with_constants(
            kind, IMAGE, [size], (1, *size, 8), table, alignCorners=corners, halfPixelCenters=half
        )
        for mode, kind, table in (
            ("bilinear", "RESIZE_BILINEAR", "ResizeBilinearOptions"),
            ("nearest", "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"),
        )
        for name, corners, half in (
            ("", False, False),
            ("_corners", True, False),
            ("_half_pixel", False, True),
        )
        for size in ([9, 11],)
    },
    "resize_nearest_down": with_constants(
        "RESIZE_NEAREST_NEIGHBOR",
        (1, 9, 7, 8),
        [[4, 3]],
        (1, 4, 3, 8),
        "ResizeNearestNeighborOptions",
        halfPixelCenters=True,
    ),
    "tile": with_constants("TILE", (2, 3), [[2, 1]], (4, 3)),
    "fill": with_constants("FILL", (), [[2, 3]], (2, 3), first=False),
    "select_v2": with_constants(
        "SELECT_V2", (2, 3), [floats(2, 3), floats(3)], (2, 3), dtypes=("bool", "float32")
    ),
    "select_rows": with_constants(
        "SELECT", (2,), [floats(2, 3), floats(2, 3)], (2, 3), dtypes=("bool", "float32")
    ),
    "one_hot": with_constants(
        "ONE_HOT",
        (2, 3),
        [np.int32(4), np.float32(2), np.float32(-1)],
        (2, 3, 4),
        "OneHotOptions",
        dtypes=("int32", "float32"),
        axis=-1,
    ),
    "cast": with_constants(
        "CAST",
        (2, 3),
        [],
        (2, 3),
        "CastOptions",
        dtypes=("float32", "int32"),
        inDataType=0,
        outDataType=2,
    ),
    "depth_to_space": with_constants(
        "DEPTH_TO_SPACE", IMAGE, [], (1, 10, 12, 2), "DepthToSpaceOptions", blockSize=2
    ),
    "space_to_depth": with_constants(
        "SPACE_TO_DEPTH", (1, 4, 6, 3), [], (1, 2, 3, 12), "SpaceToDepthOptions", blockSize=2
    ),
    "space_to_batch": with_constants(
        "SPACE_TO_BATCH_ND", (1, 5, 6, 3), [[2, 3], [[1, 0], [0, 0]]], (6, 3, 2, 3)
    ),
    "batch_to_space": with_constants(
        "BATCH_TO_SPACE_ND", (6, 3, 2, 3), [[2, 3], [[1, 0], [0, 1]]], (1, 5, 5, 3)
    ),
    "reverse": with_constants("REVERSE_V2", (2, 3, 4), [[1]], (2, 3, 4)),
    "shape": with_constants(
        "SHAPE", (2, 3, 4), [], (3,), "ShapeOptions", dtypes=("float32", "int32"), outType=2
    ),
    "rank": with_constants("RANK", (2, 3, 4), [], (), dtypes=("float32", "int32")),
    "embedding_lookup": with_constants(
        "EMBEDDING_LOOKUP", (3,), [floats(9, 4)], (3, 4), dtypes=("int32", "float32")
    ),
}
