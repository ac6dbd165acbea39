"""Training: any graph as a PyTorch module, the losses, and the loop.

Names are loaded when first used: most of them need torch, which is the extra ``torch``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from hasten.errors import MissingExtraError

if TYPE_CHECKING:
    from hasten.train.lesson import Lesson, fit
    from hasten.train.loop import History, Judge, Task, train
    from hasten.train.losses import (
        DecoupledLoss,
        DistillationLoss,
        HintLoss,
        LabelLoss,
        MatchingLoss,
        WeightedLoss,
    )
    from hasten.train.module import GraphModule
    from hasten.train.objective import Objective, OwnObjective
    from hasten.train.outputs import TrainedOutput, logits_of, trained_outputs
    from hasten.train.parting import OutputParting, Parting, TensorParting
    from hasten.train.schedule import Augmentation, Schedule
    from hasten.train.teacher import GraphTeacher, ModuleTeacher, Teacher, open_teacher
    from hasten.train.torch_weights import to_torch

__all__ = [
    "Augmentation",
    "DecoupledLoss",
    "DistillationLoss",
    "GraphModule",
    "GraphTeacher",
    "HintLoss",
    "History",
    "Judge",
    "LabelLoss",
    "Lesson",
    "MatchingLoss",
    "ModuleTeacher",
    "Objective",
    "OutputParting",
    "OwnObjective",
    "Parting",
    "Schedule",
    "Task",
    "Teacher",
    "TensorParting",
    "TrainedOutput",
    "WeightedLoss",
    "fit",
    "logits_of",
    "open_teacher",
    "to_torch",
    "train",
    "trained_outputs",
]

_HOMES = {
    "Augmentation": "schedule",
    "DecoupledLoss": "losses",
    "DistillationLoss": "losses",
    "GraphModule": "module",
    "GraphTeacher": "teacher",
    "HintLoss": "losses",
    "History": "loop",
    "Judge": "loop",
    "LabelLoss": "losses",
    "Lesson": "lesson",
    "MatchingLoss": "losses",
    "ModuleTeacher": "teacher",
    "Objective": "objective",
    "OutputParting": "parting",
    "OwnObjective": "objective",
    "Parting": "parting",
    "Schedule": "schedule",
    "Task": "loop",
    "Teacher": "teacher",
    "TensorParting": "parting",
    "TrainedOutput": "outputs",
    "WeightedLoss": "losses",
    "fit": "lesson",
    "logits_of": "outputs",
    "open_teacher": "teacher",
    "to_torch": "torch_weights",
    "train": "loop",
    "trained_outputs": "outputs",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'hasten.train' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"hasten.train.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("torch", needed_by=f"hasten.train.{name}") from error


def __dir__() -> list[str]:
    return __all__
