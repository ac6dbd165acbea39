"""Node tests that are refused, and operators without a lowering, by reason.

Written by ``python tests/litert_conformance.py --write``.
"""

from __future__ import annotations

__all__ = ["REFUSED", "UNCOVERED"]

REFUSED: dict[str, list[str]] = {
    "BatchNormalization: in training mode": [
        "test_batchnorm_epsilon_training_mode",
        "test_batchnorm_example_training_mode",
    ],
    "BitShift: shifts int64": [
        "test_bitshift_left_int64",
        "test_bitshift_right_int64",
    ],
    "Cast: its output: kernels take no float64": [
        "test_attention_local_window_gqa_rank4_mask_expanded",
        "test_reduce_log_sum_exp_empty_set_expanded",
    ],
    "DequantizeLinear: quantized in blocks": [
        "test_dequantizelinear_blocked",
    ],
    "Div: DIV takes float32, int32, not int64": [
        "test_center_crop_pad_crop_and_pad_expanded",
        "test_center_crop_pad_crop_axes_chw_expanded",
        "test_center_crop_pad_crop_axes_hwc_expanded",
        "test_center_crop_pad_crop_expanded",
        "test_center_crop_pad_crop_negative_axes_hwc_expanded",
        "test_center_crop_pad_pad_expanded",
    ],
    "MaxPool: TFLite's pooling gives no indices": [
        "test_maxpool_with_argmax_2d_precomputed_pads",
        "test_maxpool_with_argmax_2d_precomputed_strides",
    ],
    "NonZero: the shape of result depends on data": [
        "test_nonzero_example",
    ],
    "Pow: POW takes float32, int32, not int64": [
        "test_pow_types_int64_int64",
    ],
    "Pow: raises int32 to a power of float32": [
        "test_pow_types_int32_float32",
    ],
    "Pow: raises int64 to a power of float32": [
        "test_pow_types_int64_float32",
    ],
    "QuantizeLinear: quantized in blocks": [
        "test_quantizelinear_blocked_asymmetric",
    ],
    "ScatterElements: combines what it scatters by max": [
        "test_scatter_elements_with_reduction_max",
    ],
    "ScatterElements: combines what it scatters by min": [
        "test_scatter_elements_with_reduction_min",
    ],
    "ScatterElements: combines what it scatters by mul": [
        "test_scatter_elements_with_reduction_mul",
    ],
    "ScatterND: combines what it scatters by max": [
        "test_scatternd_max",
        "test_scatternd_max_with_element_indices",
    ],
    "ScatterND: combines what it scatters by min": [
        "test_scatternd_min",
        "test_scatternd_min_with_element_indices",
    ],
    "ScatterND: combines what it scatters by mul": [
        "test_scatternd_multiply",
    ],
}

UNCOVERED: dict[str, list[str]] = {
    "control flow": [
        "If",
        "Loop",
        "Scan",
    ],
    "not covered": [
        "AffineGrid",
        "Attention",
        "BitCast",
        "BlackmanWindow",
        "CausalConvWithState",
        "Col2Im",
        "ConvInteger",
        "CumProd",
        "DFT",
        "DeformConv",
        "Det",
        "DynamicQuantizeLinear",
        "GridSample",
        "HammingWindow",
        "HannWindow",
        "ImageDecoder",
        "LinearAttention",
        "MatMulInteger",
        "MaxUnpool",
        "MelWeightMatrix",
        "NegativeLogLikelihoodLoss",
        "QLinearConv",
        "QLinearMatMul",
        "ReverseSequence",
        "RoiAlign",
        "RotaryEmbedding",
        "STFT",
        "SoftmaxCrossEntropyLoss",
        "SwiGLU",
        "TensorScatter",
    ],
    "random numbers": [
        "Bernoulli",
        "RandomUniformLike",
    ],
    "sequences of tensors": [
        "SequenceEmpty",
        "SequenceInsert",
        "SequenceLength",
        "SequenceMap",
        "SplitToSequence",
    ],
    "text": [
        "RegexFullMatch",
        "StringConcat",
        "StringNormalizer",
        "StringSplit",
        "TfIdfVectorizer",
    ],
    "the shape of its output depends on data": [
        "Compress",
        "NonMaxSuppression",
        "Unique",
    ],
    "values that may be absent": [
        "OptionalGetElement",
        "OptionalHasElement",
    ],
}
