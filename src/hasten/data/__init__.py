"""Samples and metrics: the data a model is calibrated with, and how its answers are judged."""

from hasten.data.fidelity import OutputScore
from hasten.data.finite import first_nonfinite
from hasten.data.generator import read_callable
from hasten.data.image_folder import image_input, read_image_folder
from hasten.data.load import Source, load_samples
from hasten.data.metrics import METRICS, CustomMetric, Fidelity, Metric, Score, Top1, resolve_metric
from hasten.data.npz import read_npz
from hasten.data.preprocessing import Preprocessing, parse_preprocessing
from hasten.data.samples import Samples

__all__ = [
    "Samples",
    "Source",
    "load_samples",
    "read_npz",
    "read_image_folder",
    "read_callable",
    "image_input",
    "Preprocessing",
    "parse_preprocessing",
    "Metric",
    "METRICS",
    "OutputScore",
    "Score",
    "Top1",
    "Fidelity",
    "CustomMetric",
    "resolve_metric",
    "first_nonfinite",
]
