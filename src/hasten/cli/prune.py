"""``hasten prune``: fewer channels, or zeros."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from hasten.api import prune as prune_model
from hasten.cli.output import print_compression
from hasten.cli.single_step import SingleStep, named_as_flags
from hasten.compress import PruneChannels, Sparsify
from hasten.errors import OptionError

__all__ = ["prune"]

_AS_USUAL = SingleStep()
_OF_CHANNELS = {"--importance", "--multiple", "--timed-as"}
_OF_ZEROS: dict[str, set[str]] = {"--sparsity": {"--scope"}, "--pattern": set()}


def prune(
    model: str,
    *,
    out: Path,
    ratio: float | None = None,
    latency_ratio: float | None = None,
    size_ratio: float | None = None,
    importance: Literal["magnitude", "taylor", "batch_norm"] = "magnitude",
    multiple: int = 8,
    timed_as: Literal["float", "int8"] = "float",
    sparsity: float | None = None,
    pattern: str | None = None,
    scope: Literal["global", "layer"] = "global",
    single: SingleStep = _AS_USUAL,
) -> int:
    """Write a model with fewer channels, or with zeros in its weights.

    One goal is given; by default half of the channels of each layer go. The accuracy that is lost
    comes back with training: see hasten finetune and hasten distill.

    Parameters
    ----------
    model
        A path (.onnx, .tflite, .pt2) or package.module:callable that returns an nn.Module.
    out
        The file to write: .onnx, or .tflite for LiteRT.
    ratio
        Goal: the share of channels that goes from every layer.
    latency_ratio
        Goal: the share of the latency that is left, as measured.
    size_ratio
        Goal: the share of the weights' bytes that is left.
    importance
        Which channels matter: by their weights, by gradients on samples of --data, or by the scale
        of a batch norm.
    multiple
        Channels are kept in multiples of this, as vector units like them.
    timed_as
        What --latency-ratio measures: the graph as it is, or in int8, which it is to be later.
    sparsity
        Goal: the share of weights that becomes zero; smaller when compressed, and no faster.
    pattern
        Goal: zeros in a pattern such as 2:4, two of each four weights kept.
    scope
        Whether weights compare over the whole graph or within their layer.
    """
    goals = {
        "--ratio": ratio,
        "--latency-ratio": latency_ratio,
        "--size-ratio": size_ratio,
        "--sparsity": sparsity,
        "--pattern": pattern,
    }
    given = [flag for flag, value in goals.items() if value is not None]
    if len(given) > 1:
        raise OptionError(
            expected="one goal", got=" and ".join(given), where="hasten prune", hint="give one"
        )
    channels, zeros = PruneChannels(), Sparsify()
    changed = {
        "--importance": importance != channels.importance,
        "--multiple": multiple != channels.multiple,
        "--timed-as": timed_as != channels.timed_as,
        "--scope": scope != zeros.scope,
    }
    _refuse_unused(given, [flag for flag, is_changed in changed.items() if is_changed])
    step: PruneChannels | Sparsify
    with named_as_flags():
        if sparsity is not None:
            step = Sparsify(sparsity, scope)
        elif pattern is not None:
            step = Sparsify(pattern=pattern)
        else:
            step = PruneChannels(
                ratio=ratio,
                latency_ratio=latency_ratio,
                size_ratio=size_ratio,
                importance=importance,
                multiple=multiple,
                timed_as=timed_as,
            )
    found = prune_model(model, single.samples(), out=out, step=step, way=single.way())
    return print_compression(found, as_json=single.json)


def _refuse_unused(goals: list[str], settings: list[str]) -> None:
    """Raise OptionError for a setting that would change nothing under the goal."""
    goal = goals[0] if goals else "a goal in channels"
    unused = [flag for flag in settings if flag not in _OF_ZEROS.get(goal, _OF_CHANNELS)]
    if unused:
        raise OptionError(
            expected=f"settings that {goal} has a use for",
            got=" and ".join(unused),
            where="hasten prune",
            hint="leave out what changes nothing",
        )
