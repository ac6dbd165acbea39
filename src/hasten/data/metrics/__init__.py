"""How good answers are: against labels, against the reference model, or by a rule of the user's."""

from hasten.data.metrics.custom import CustomMetric
from hasten.data.metrics.fidelity import Fidelity
from hasten.data.metrics.labelled import Labelled
from hasten.data.metrics.metric import Bindable, Metric, Score
from hasten.data.metrics.resolve import METRICS, metric_names, resolve_metric
from hasten.data.metrics.scale import counts_errors, is_share, loss

__all__ = [
    "METRICS",
    "Bindable",
    "CustomMetric",
    "Fidelity",
    "Labelled",
    "Metric",
    "Score",
    "counts_errors",
    "is_share",
    "loss",
    "metric_names",
    "resolve_metric",
]
