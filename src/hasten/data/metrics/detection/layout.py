"""How the numbers of a detector's outputs are to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOX_FORMATS", "Activation", "BoxFormat", "Classes", "Layout", "corners", "renumbered"]

BoxFormat = Literal["xyxy", "cxcywh", "yxyx", "xywh"]
BOX_FORMATS: tuple[BoxFormat, ...] = ("xyxy", "cxcywh", "yxyx", "xywh")
Activation = Literal["none", "sigmoid", "softmax"]
#: How a class number of the model becomes one of the labels: the same; after a background at 0; the
#: number that the class has in the label file, counted as there or from 0.
Classes = Literal["same", "after background", "by id", "by id from 0"]

Floats = NDArray[np.float64]

_CLASSES_SAID: dict[Classes, str] = {
    "same": "",
    "after background": "class 0 is the background",
    "by id": "classes are numbered as the categories of the label file",
    "by id from 0": "classes are numbered as the categories of the label file, less 1",
}


@dataclass(frozen=True)
class Layout:
    """How boxes are written, in which unit, and what scores and class numbers mean.

    ``scale`` is (width, height) that coordinates from 0 to 1 are multiplied with, or None where
    they are in pixels of the model's input.
    """

    box_format: BoxFormat = "xyxy"
    scale: tuple[float, float] | None = None
    objectness: bool = False
    activation: Activation = "none"
    classes: Classes = "same"
    ids: tuple[int, ...] = ()

    def __str__(self) -> str:
        unit = "pixels of the model's input" if self.scale is None else "shares of the picture"
        said = [f"boxes are {self.box_format} in {unit}"]
        if self.objectness:
            said.append("scores are multiplied by that of any object")
        if self.activation != "none":
            said.append(f"scores are logits, read through a {self.activation}")
        if _CLASSES_SAID[self.classes]:
            said.append(_CLASSES_SAID[self.classes])
        return ", ".join(said)


def corners(boxes: Floats, layout: Layout) -> Floats:
    """Return [k, 4] as (left, top, right, bottom) in pixels.

    >>> corners(np.array([[4.0, 6.0, 2.0, 4.0]]), Layout("cxcywh")).tolist()
    [[3.0, 4.0, 5.0, 8.0]]
    """
    if layout.box_format == "yxyx":
        boxes = boxes[:, [1, 0, 3, 2]]
    elif layout.box_format == "xywh":
        boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    elif layout.box_format == "cxcywh":
        half = boxes[:, 2:] / 2
        boxes = np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], axis=1)
    return boxes if layout.scale is None else boxes * np.tile(layout.scale, 2)


def renumbered(classes: NDArray[np.int64], layout: Layout) -> NDArray[np.int64]:
    """Return the labels' numbers of these classes; -1 for one that labels do not know.

    >>> renumbered(np.array([1, 3, 2]), Layout(classes="by id", ids=(1, 3))).tolist()
    [0, 1, -1]
    """
    if layout.classes == "same":
        return classes
    if layout.classes == "after background":
        return classes - 1
    wanted = classes + (1 if layout.classes == "by id from 0" else 0)
    known = np.asarray(layout.ids, np.int64)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)
