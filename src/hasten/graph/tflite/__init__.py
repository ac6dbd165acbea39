"""TensorFlow Lite models: read with suspicion, and brought into the graph in the middle."""

from hasten.graph.tflite.importer import import_program
from hasten.graph.tflite.program import Program
from hasten.graph.tflite.reader import read_program
from hasten.graph.tflite.refusal import Damaged

__all__ = ["Damaged", "Program", "import_program", "read_program"]
