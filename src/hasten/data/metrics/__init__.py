"""How good answers are: against labels, against the reference model, or by a rule of the user's."""

from hasten.data.metrics.custom import CustomMetric
from hasten.data.metrics.fidelity import Fidelity
from hasten.data.metrics.metric import Metric, Score
from hasten.data.metrics.resolve import METRICS, resolve_metric
from hasten.data.metrics.top1 import Top1

__all__ = ["METRICS", "CustomMetric", "Fidelity", "Metric", "Score", "Top1", "resolve_metric"]
