"""Average precision by pycocotools: overlaps of 0.50 to 0.95, a hundred detections a picture."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hasten.data.labels import Labels
from hasten.data.metrics.labelled import library

__all__ = ["Detections", "Precision", "average_precision"]

_AREA = [0.0, 1e10]
_MOST = 100


class Detections(NamedTuple):
    """What was found in one sample: corners, [k, 4], scores, [k], and classes, [k]."""

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.int64]


class Precision(NamedTuple):
    """Mean over classes of average precision: over overlaps of 0.50 to 0.95, and at 0.50, 0.75."""

    all: float
    at_50: float
    at_75: float


def average_precision(found: Sequence[Detections], labels: Labels, metric: str) -> Precision:
    """Judge detections as the COCO benchmark does (cocodataset.org/#detection-eval).

    Over the classes that labels have; crowds are neither found nor missed.
    """
    coco = library("pycocotools.coco", metric)
    evaluation = library("pycocotools.cocoeval", metric)
    samples = range(len(found))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
        truth, said = coco.COCO(), coco.COCO()
        classes = sorted(set(labels.columns["classes"].tolist()))
        truth.dataset = _dataset(
            [
                annotation
                for sample, rows in zip(samples, _labelled(labels), strict=True)
                for annotation in _annotations(sample, *rows)
            ],
            len(found),
            classes,
        )
        said.dataset = _dataset(
            [
                annotation
                for sample, one in zip(samples, found, strict=True)
                for annotation in _annotations(
                    sample, one.boxes, one.classes, np.zeros(len(one.boxes), bool), one.scores
                )
            ],
            len(found),
            classes,
        )
        truth.createIndex()
        said.createIndex()
        run = evaluation.COCOeval(truth, said, "bbox")
        run.params.areaRng, run.params.areaRngLbl = [_AREA], ["all"]
        run.params.maxDets = [_MOST]
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][..., 0, 0]  # [overlaps, recalls, classes]
    return Precision(*(_mean(part) for part in (precision, precision[0], precision[5])))


def _labelled(
    labels: Labels,
) -> list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.bool_]]]:
    return list(
        zip(labels.each("boxes"), labels.each("classes"), labels.each("crowd"), strict=True)
    )


def _annotations(
    sample: int,
    boxes: NDArray[np.float64],
    classes: NDArray[np.int64],
    crowd: NDArray[np.bool_],
    scores: NDArray[np.float64] | None = None,
) -> list[dict[str, object]]:
    made = []
    for at, (left, top, right, bottom) in enumerate(boxes.tolist()):
        width, height = max(0.0, right - left), max(0.0, bottom - top)
        one: dict[str, object] = {
            "image_id": sample,
            "category_id": int(classes[at]),
            "bbox": [left, top, width, height],
            "area": width * height,
            "iscrowd": int(crowd[at]),
        }
        if scores is not None:
            one["score"] = float(scores[at])
        made.append(one)
    return made


def _dataset(
    annotations: list[dict[str, object]], samples: int, classes: Sequence[int]
) -> dict[str, object]:
    # Numbers from 1: the evaluation takes a match with number 0 for none.
    numbered = [{**one, "id": at} for at, one in enumerate(annotations, 1)]
    return {
        "images": [{"id": sample} for sample in range(samples)],
        "annotations": numbered,
        "categories": [{"id": one} for one in classes],
    }


def _mean(precision: NDArray[np.float64]) -> float:
    known = precision[precision > -1]
    return float(known.mean()) if known.size else 0.0
