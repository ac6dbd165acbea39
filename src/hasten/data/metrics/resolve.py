"""From what the user asks for to a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hasten.data.metrics.custom import CustomMetric
from hasten.data.metrics.fidelity import Fidelity
from hasten.data.metrics.metric import Metric
from hasten.data.metrics.top1 import Top1
from hasten.errors import DataError, OptionError
from hasten.graph.object_path import import_object, is_object_path

if TYPE_CHECKING:
    from hasten.data.samples import Samples

__all__ = ["METRICS", "resolve_metric"]

#: Every metric that has a name of its own.
METRICS: dict[str, Metric] = {metric.name: metric for metric in (Top1(), Fidelity())}


def resolve_metric(name: str | None, samples: Samples) -> Metric:
    """Return the metric of this name, or ``package.module:callable``.

    None means top1 where the samples have labels and fidelity where not. Raises DataError for
    top1 without labels, OptionError for a name that is none.
    """
    if name is None:
        name = "fidelity" if samples.labels is None else "top1"
    if name == "top1" and samples.labels is None:
        raise DataError(
            expected="labels for metric top1",
            got="none",
            where=samples.source,
            hint="use --metric fidelity",
        )
    if name in METRICS:
        return METRICS[name]
    if not is_object_path(name):
        raise OptionError(
            expected=f"{', '.join(METRICS)} or package.module:callable",
            got=repr(name),
            where="--metric",
        )
    function = import_object(name, where="--metric")
    if not callable(function):
        raise OptionError(
            expected="a callable", got=type(function).__name__, where=f"--metric {name}"
        )
    return CustomMetric(name, function)
