"""What one output is compared by: scalars with gradients, a mean over samples and places.

``axis`` is where classes stand. Labels are int64 without that axis, or floats of the output's
shape; places with a label below 0, or of 255 where there are fewer classes, do not count.
"""

from __future__ import annotations

import torch
from torch.nn import functional as f

__all__ = [
    "absolute",
    "bernoulli",
    "bernoulli_divergence",
    "ctc",
    "cosine",
    "cross_entropy",
    "divergence",
    "focal",
    "focal_bernoulli",
    "generalized_iou",
    "soft_iou",
    "squared",
]

#: Labels that do not count: of places, as in ``hasten.data.labels``.
_IGNORED = 255
_LEAST = 1e-6
#: How much less an easy example counts: Lin et al., table 1b.
_FOCUS = 2.0


def squared(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared difference."""
    return f.mse_loss(output, target.to(output.dtype))


def absolute(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference."""
    return f.l1_loss(output, target.to(output.dtype))


def cosine(output: torch.Tensor, target: torch.Tensor, axis: int) -> torch.Tensor:
    """One less the cosine between both, along an axis."""
    return (1 - f.cosine_similarity(output, target, dim=axis)).mean()


def divergence(
    output: torch.Tensor, target: torch.Tensor, axis: int, temperature: float
) -> torch.Tensor:
    """``T^2 * KL(target || output)`` of softened classes, from the logits of both.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (arXiv
    1503.02531), section 2.
    """
    student, wanted = (
        f.log_softmax(each / temperature, dim=axis).movedim(axis, -1).flatten(0, -2)
        for each in (output, target)
    )
    return temperature**2 * f.kl_div(student, wanted, reduction="batchmean", log_target=True)


def bernoulli_divergence(
    output: torch.Tensor, target: torch.Tensor, *, logits: bool
) -> torch.Tensor:
    """KL(target || output) of classes that are true or not each for itself, mean over them.

    Both are logits, or both probabilities.
    """
    share = target.sigmoid() if logits else target
    share = share.clamp(_LEAST, 1 - _LEAST)
    entropy = f.binary_cross_entropy(share, share)
    return bernoulli(output, share, logits=logits) - entropy


def bernoulli(
    output: torch.Tensor,
    target: torch.Tensor,
    *,
    logits: bool,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Binary cross entropy against shares from 0 to 1, of which ``smoothing`` goes to one half.

    ``weights`` are of the classes, along the last axis.
    """
    wanted = target.to(output.dtype) * (1 - smoothing) + smoothing / 2
    if logits:
        return f.binary_cross_entropy_with_logits(output, wanted, weight=weights)
    return f.binary_cross_entropy(output.clamp(_LEAST, 1 - _LEAST), wanted, weight=weights)


def cross_entropy(
    output: torch.Tensor,
    labels: torch.Tensor,
    axis: int,
    smoothing: float = 0.0,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy of logits, of which ``smoothing`` is spread over all classes.

    Source: Szegedy et al., "Rethinking the Inception Architecture", CVPR 2016 (arXiv 1512.00567),
    section 7.
    """
    scores, known = _rows(output, labels, axis)
    if not len(known):
        return output.sum() * 0.0
    return f.cross_entropy(scores, known, weight=weights, label_smoothing=smoothing)


def focal(
    output: torch.Tensor,
    labels: torch.Tensor,
    axis: int,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross entropy in which what is sure already counts less: ``(1 - p)^2`` times.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017 (arXiv 1708.02002).
    """
    scores, known = _rows(output, labels, axis)
    if not len(known):
        return output.sum() * 0.0
    each = f.cross_entropy(scores, known, weight=weights, reduction="none")
    sure = f.softmax(scores, dim=1).gather(1, known[:, None])[:, 0]
    return ((1 - sure) ** _FOCUS * each).mean()


def focal_bernoulli(output: torch.Tensor, target: torch.Tensor, *, logits: bool) -> torch.Tensor:
    """The same of classes that are true or not each for itself."""
    share = output.sigmoid() if logits else output.clamp(_LEAST, 1 - _LEAST)
    wanted = target.to(output.dtype)
    right = share * wanted + (1 - share) * (1 - wanted)
    return ((1 - right) ** _FOCUS * -right.clamp(min=_LEAST).log()).mean()


def ctc(
    output: torch.Tensor,
    targets: torch.Tensor,
    lengths: torch.Tensor,
    axis: int,
    blank: int,
) -> torch.Tensor:
    """Connectionist temporal classification of logits [n, steps, classes], or classes before steps.

    ``targets`` are int64 [n, longest], of which the first ``lengths`` count.

    Source: Graves et al., ICML 2006.
    """
    steps = f.log_softmax(output.movedim(axis, -1), dim=-1).transpose(0, 1)
    count = torch.full((steps.shape[1],), steps.shape[0], dtype=torch.int64)
    return f.ctc_loss(steps, targets, count, lengths, blank=blank, zero_infinity=True)


def soft_iou(output: torch.Tensor, labels: torch.Tensor, axis: int | None) -> torch.Tensor:
    """One less the overlap of probable and true places, a mean over classes that occur.

    Logits with classes along ``axis``, or without one of whether each place belongs to it.

    Source: Rahman and Wang, "Optimizing Intersection-Over-Union in Deep Neural Networks", ISVC
    2016.
    """
    if axis is None:
        share, wanted = (
            output.sigmoid().flatten()[:, None],
            labels.to(output.dtype).flatten()[:, None],
        )
    else:
        scores, known = _rows(output, labels, axis)
        share = f.softmax(scores, dim=1)
        wanted = f.one_hot(known, scores.shape[1]).to(output.dtype)
    both = (share * wanted).sum(0)
    either = (share + wanted).sum(0) - both
    occurs = wanted.sum(0) > 0
    if not occurs.any():
        return share.mean()
    return 1 - (both / either.clamp(min=_LEAST))[occurs].mean()


def generalized_iou(output: torch.Tensor, target: torch.Tensor, form: str) -> torch.Tensor:
    """One less the generalised overlap of boxes [..., 4], as ``xyxy`` or ``cxcywh``.

    Source: Rezatofighi et al., CVPR 2019 (arXiv 1902.09630).
    """
    a, b = (_corners(each.to(output.dtype), form) for each in (output, target))
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    both, around = inner.prod(-1), outer.prod(-1).clamp(min=_LEAST)
    areas = [(each[..., 2:] - each[..., :2]).prod(-1) for each in (a, b)]
    either = (areas[0] + areas[1] - both).clamp(min=_LEAST)
    return (1 - both / either + (around - either) / around).mean()


def _corners(boxes: torch.Tensor, form: str) -> torch.Tensor:
    if form == "xyxy":
        return boxes
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _rows(
    output: torch.Tensor, labels: torch.Tensor, axis: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits [places, classes] with their labels, for the places that count."""
    scores = output.movedim(axis, -1).flatten(0, -2)
    flat = labels.reshape(-1).to(torch.int64)
    counts = (flat >= 0) & ((flat != _IGNORED) | (scores.shape[1] > _IGNORED))
    return scores[counts], flat[counts]
