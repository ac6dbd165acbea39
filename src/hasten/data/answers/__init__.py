"""What a model answered for samples, run by run, and where samples stand in each output."""

from hasten.data.answers.answers import Answers, Output
from hasten.data.answers.runs import Runs, RunWriter, plain, read_runs
from hasten.data.answers.sample_axis import (
    FIRST_AXIS,
    SampleAxis,
    axis_by_growth,
    axis_by_rotation,
    sample_axes,
)

__all__ = [
    "FIRST_AXIS",
    "Answers",
    "Output",
    "RunWriter",
    "Runs",
    "SampleAxis",
    "axis_by_growth",
    "axis_by_rotation",
    "plain",
    "read_runs",
    "sample_axes",
]
