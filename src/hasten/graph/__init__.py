"""The model in the middle: loading, signature, cleaning and saving."""

from hasten.graph.model import AppliedStep, Model, TorchSource
from hasten.graph.signature import InputSpec, Signature, TensorSpec, numpy_dtype, parse_input

__all__ = [
    "AppliedStep",
    "InputSpec",
    "Model",
    "Signature",
    "TensorSpec",
    "TorchSource",
    "numpy_dtype",
    "parse_input",
]
