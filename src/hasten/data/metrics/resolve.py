"""From what the user asks for to a metric."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from hasten.data.labels import LabelKind
from hasten.data.metrics.auc import AUC
from hasten.data.metrics.custom import CustomMetric
from hasten.data.metrics.detection import MAP, MAP50
from hasten.data.metrics.f1 import F1
from hasten.data.metrics.fidelity import Fidelity
from hasten.data.metrics.labelled import Labelled, Rule, require_kind
from hasten.data.metrics.masks import IOU
from hasten.data.metrics.metric import Metric
from hasten.data.metrics.retrieval import recall
from hasten.data.metrics.texts import CER, WER
from hasten.data.metrics.top import top
from hasten.data.metrics.values import MAE, R2, RMSE
from hasten.errors import DataError, MissingExtraError, OptionError
from hasten.graph.object_path import import_object, is_object_path

if TYPE_CHECKING:
    from hasten.data.samples import Samples

__all__ = ["METRICS", "metric_names", "resolve_metric"]

_RULES: dict[str, Rule] = {
    "top1": top(1),
    "top5": top(5),
    "f1": F1,
    "auc": AUC,
    "map": MAP,
    "map50": MAP50,
    "iou": IOU,
    "cer": CER,
    "wer": WER,
    "mae": MAE,
    "rmse": RMSE,
    "r2": R2,
    "recall@1": recall(1),
    "recall@5": recall(5),
}
#: Every metric that has a name of its own.
METRICS: dict[str, Metric] = {
    **{name: Labelled(name, rule) for name, rule in _RULES.items()},
    "fidelity": Fidelity(),
}
#: Metrics of any number, such as top3 and recall@10.
_FAMILIES: dict[str, Callable[[int], Rule]] = {"top": top, "recall@": recall}
_NUMBERED = re.compile(r"(top|recall@)([1-9]\d*)")
#: What labels are judged by where no metric is named.
_USUAL: dict[LabelKind, str] = {
    "classes": "top1",
    "several": "f1",
    "values": "r2",
    "mask": "iou",
    "boxes": "map",
    "texts": "cer",
}


def metric_names() -> str:
    """Return the names of all metrics in one line, for messages and help."""
    return ", ".join(METRICS)


def resolve_metric(name: str | None, samples: Samples) -> Metric:
    """Return the metric of this name, or ``package.module:callable``.

    ``topK`` and ``recall@K`` are metrics for any number K. None means what suits the kind of labels
    that the samples have, and fidelity where they have none. Raises DataError where labels are
    missing or of a kind that the metric does not judge, MissingExtraError where the library that
    computes it is not installed, OptionError for a name that is none.
    """
    truth = samples.ground_truth
    if name is None:
        name = "fidelity" if truth is None else _USUAL[truth.kind]
    metric = METRICS.get(name) or _numbered(name)
    if metric is None:
        return _custom(name)
    if not isinstance(metric, Labelled):
        return metric
    if truth is None:
        raise DataError(
            expected=f"labels for metric {name}",
            got="none",
            where=samples.source,
            hint="use --metric fidelity",
        )
    hint = f"use --metric {_USUAL[truth.kind]}"
    require_kind(metric, truth.kind, f"{samples.source}: labels", hint)
    package = metric.rule.needs.partition(".")[0]
    if package and importlib.util.find_spec(package) is None:
        raise MissingExtraError("metrics", needed_by=f"--metric {name}")
    return metric


def _numbered(name: str) -> Metric | None:
    match = _NUMBERED.fullmatch(name)
    return Labelled(name, _FAMILIES[match[1]](int(match[2]))) if match else None


def _custom(name: str) -> Metric:
    if not is_object_path(name):
        near = get_close_matches(name.lower(), METRICS, n=1)
        raise OptionError(
            expected=f"{metric_names()} or package.module:callable",
            got=repr(name),
            where="--metric",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    function = import_object(name, where="--metric")
    if not callable(function):
        raise OptionError(
            expected="a callable", got=type(function).__name__, where=f"--metric {name}"
        )
    return CustomMetric(name, function)
