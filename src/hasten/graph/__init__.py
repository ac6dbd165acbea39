"""The model in the middle: loading, signature, cleaning and saving.

Importing this room loads neither onnx nor torch nor a runtime: each is imported by the function
that needs it, so a worker process that only runs a model stays small.
"""

from hasten.graph.blocks import Block, blocks, node_names
from hasten.graph.clean import Arrays, Run, clean
from hasten.graph.constants import FLOAT, constants_of, drop_unused, initializer_arrays
from hasten.graph.derived import Derivations, fold_derived, parents_of
from hasten.graph.load import load
from hasten.graph.model import AppliedStep, Model, TFLiteSource, TorchSource
from hasten.graph.object_path import import_object
from hasten.graph.onnx_file import model_from_proto, read_onnx, signature_of, write_onnx
from hasten.graph.operators import (
    all_nodes,
    attribute_of,
    control_flow,
    unknown_operators,
)
from hasten.graph.output_file import require_free_file, write_whole
from hasten.graph.parameter_names import (
    Layout,
    ParameterNames,
    parameter_names,
    with_parameter_names,
)
from hasten.graph.pt2_archive import open_exported_program
from hasten.graph.signature import InputSpec, Signature, TensorSpec, numpy_dtype, parse_input
from hasten.graph.tflite_file import read_tflite
from hasten.graph.torch_export import export_torch, save_torch
from hasten.graph.watch import with_outputs

__all__ = [
    "FLOAT",
    "AppliedStep",
    "Arrays",
    "Block",
    "Derivations",
    "InputSpec",
    "Layout",
    "Model",
    "ParameterNames",
    "Run",
    "Signature",
    "TFLiteSource",
    "TensorSpec",
    "TorchSource",
    "all_nodes",
    "attribute_of",
    "blocks",
    "clean",
    "constants_of",
    "control_flow",
    "drop_unused",
    "export_torch",
    "fold_derived",
    "import_object",
    "initializer_arrays",
    "load",
    "model_from_proto",
    "node_names",
    "numpy_dtype",
    "open_exported_program",
    "parameter_names",
    "parents_of",
    "parse_input",
    "read_onnx",
    "read_tflite",
    "require_free_file",
    "save_torch",
    "signature_of",
    "unknown_operators",
    "with_outputs",
    "with_parameter_names",
    "write_onnx",
    "write_whole",
]
