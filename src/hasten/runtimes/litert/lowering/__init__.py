"""ONNX graphs, float or with quantized pairs, as .tflite files."""

from hasten.runtimes.litert.lowering.lower import Lowering, lower_graph

__all__ = ["Lowering", "lower_graph"]
