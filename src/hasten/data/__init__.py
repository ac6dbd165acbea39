"""Samples and metrics: the data a model is calibrated with, and how its answers are judged."""

from hasten.data.datasets import read_callable, read_object
from hasten.data.fidelity import OutputScore
from hasten.data.finite import first_nonfinite
from hasten.data.image_folder import image_input, read_image_folder
from hasten.data.labels import Labels
from hasten.data.load import Source, load_samples
from hasten.data.metrics import (
    METRICS,
    Bindable,
    CustomMetric,
    Fidelity,
    Metric,
    Score,
    counts_errors,
    is_share,
    loss,
    metric_names,
    resolve_metric,
)
from hasten.data.npz import read_npz
from hasten.data.preprocessing import Preprocessing
from hasten.data.preprocessing_text import parse_preprocessing
from hasten.data.samples import Samples

__all__ = [
    "Samples",
    "Source",
    "load_samples",
    "read_npz",
    "read_image_folder",
    "read_callable",
    "read_object",
    "image_input",
    "Preprocessing",
    "parse_preprocessing",
    "Metric",
    "METRICS",
    "OutputScore",
    "Score",
    "Labels",
    "Bindable",
    "counts_errors",
    "is_share",
    "loss",
    "metric_names",
    "Fidelity",
    "CustomMetric",
    "resolve_metric",
    "first_nonfinite",
]
