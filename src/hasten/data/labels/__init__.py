"""What is true of each sample: classes, values, masks, boxes or texts, and the files they are in.

In come arrays, Python objects or a label file; out goes one ``Labels``, of one kind, in the order
of the samples. Boxes and masks are those of the picture that the model is given, not of the file.
"""

from hasten.data.labels.labels import LABEL_KINDS, LabelKind, Labels
from hasten.data.labels.store import LabelIndex, read_labels, write_labels
from hasten.data.labels.take import take_labels

__all__ = [
    "LABEL_KINDS",
    "LabelIndex",
    "LabelKind",
    "Labels",
    "read_labels",
    "take_labels",
    "write_labels",
]
