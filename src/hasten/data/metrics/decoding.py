"""From class scores over time, or token numbers, to texts: greedy, as for CTC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hasten.data.fidelity.sequences import collapsed
from hasten.data.labels import Labels

__all__ = ["Alphabet", "decoded", "spell", "spelled_labels"]

#: Symbols that end a text or stand for none, as tokenizers and CTC models name them.
_BLANKS = frozenset({"<blank>", "<blk>", "[blank]", "blank", "<pad>", "[PAD]", "<ctc>", "ε", ""})
_ENDS = frozenset({"</s>", "<eos>", "[EOS]", "[SEP]", "<|endoftext|>"})
_SILENT = frozenset({"<s>", "<bos>", "[BOS]", "[CLS]", "<unk>", "[UNK]", "<mask>", "[MASK]"})
#: What stands for a space where the alphabet has none.
_SPACES = ("|", "▁", "<space>", "[SPACE]")
#: Where classes have no symbols they are spelled with characters of nobody's.
_PRIVATE = 0xE000


@dataclass(frozen=True)
class Alphabet:
    """The symbol of each class, and which class is the blank of CTC, if one is."""

    symbols: tuple[str, ...]
    blank: int | None

    @classmethod
    def of(cls, labels: Labels, classes: int) -> Alphabet | None:
        """Take the alphabet of labels, or spell classes where labels are class numbers.

        None where texts have no alphabet, or it has not as many symbols as there are classes.
        """
        symbols = labels.alphabet
        if labels.kind == "mask":
            used = set(np.unique(labels.values).tolist())
            blank = next((one for one in (0, classes - 1) if one not in used), None)
            return cls(tuple(chr(_PRIVATE + at) for at in range(classes)), blank)
        if len(symbols) == classes - 1:  # the blank has no symbol: it is first, by habit
            return cls(("<blank>", *symbols), 0)
        if len(symbols) != classes:
            return None
        blank = next((at for at, symbol in enumerate(symbols) if symbol in _BLANKS), None)
        return cls(symbols, blank)

    def with_blank_last(self) -> Alphabet | None:
        """Return the same symbols with an unnamed blank behind them; None where it is named."""
        if not self.symbols or self.symbols[0] != "<blank>" or self.blank != 0:
            return None
        return Alphabet((*self.symbols[1:], "<blank>"), len(self.symbols) - 1)


def decoded(scores: NDArray[np.generic], axis: int, alphabet: Alphabet) -> str:
    """Return the text of the best class at each step, repeats and blanks left out.

    Greedy decoding of connectionist temporal classification (Graves and others, 2006).
    """
    steps = np.moveaxis(np.asarray(scores, np.float64), axis, -1)
    best = steps.reshape(-1, steps.shape[-1]).argmax(axis=-1)
    kept = collapsed(best) if alphabet.blank is not None else best.tolist()
    return spell(kept, alphabet)


def spell(classes: Sequence[int], alphabet: Alphabet) -> str:
    """Join the symbols of classes up to the end of the text.

    >>> spell([1, 0, 2, 3, 1], Alphabet(("<pad>", "a", "|", "</s>"), 0))
    'a '
    """
    space = next((one for one in _SPACES if one in alphabet.symbols), None)
    if " " in alphabet.symbols:
        space = None
    text = []
    for one in classes:
        symbol = alphabet.symbols[one] if 0 <= one < len(alphabet.symbols) else ""
        if symbol in _ENDS:
            break
        if one == alphabet.blank or symbol in _SILENT or symbol in _BLANKS:
            continue
        text.append(symbol.replace(space, " ") if space is not None else symbol)
    return "".join(text)


def spelled_labels(labels: Labels) -> list[str]:
    """Return the texts of labels, or their class numbers as private characters, padding left out.

    >>> spelled_labels(Labels.of_texts(["ab"]))
    ['ab']
    """
    if labels.kind == "texts":
        return labels.texts
    rows = labels.values.reshape(len(labels), -1)
    return ["".join(chr(_PRIVATE + int(one)) for one in row if one >= 0) for row in rows]
