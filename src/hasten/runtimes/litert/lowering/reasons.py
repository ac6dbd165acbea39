"""Why there is no lowering of an operator, where more can be said than that."""

from __future__ import annotations

__all__ = ["why_not"]

_REASONS = {
    **dict.fromkeys(("If", "Loop", "Scan"), "control flow"),
    **dict.fromkeys(
        ("Compress", "NonMaxSuppression", "Unique"), "the shape of its output depends on data"
    ),
    **dict.fromkeys(
        (
            "ConcatFromSequence",
            "SequenceAt",
            "SequenceConstruct",
            "SequenceEmpty",
            "SequenceErase",
            "SequenceInsert",
            "SequenceLength",
            "SequenceMap",
            "SplitToSequence",
        ),
        "sequences of tensors",
    ),
    **dict.fromkeys(
        ("Optional", "OptionalGetElement", "OptionalHasElement"), "values that may be absent"
    ),
    **dict.fromkeys(
        (
            "Bernoulli",
            "Multinomial",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
        ),
        "random numbers",
    ),
    **dict.fromkeys(
        ("RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer"),
        "text",
    ),
}


def why_not(operator: str) -> str:
    """The reason, without the operator's name.

    >>> why_not("Loop"), why_not("Det")
    ('control flow', 'not covered')
    """
    return _REASONS.get(operator, "not covered")
