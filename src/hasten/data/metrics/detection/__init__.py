"""Mean average precision: boxes out of whatever a detector answers, held to labelled boxes.

In come the outputs of a detector, raw or after non-maximum suppression, and boxes as labels. How
its numbers are to be read (``Layout``) is found once, on the reference, by which reading finds the
labelled boxes; pycocotools computes the figure.
"""

from hasten.data.metrics.detection.rule import MAP, MAP50

__all__ = ["MAP", "MAP50"]
