"""Text of strangers as it may be shown: what would act on a terminal, a log or a line is escaped.

Names of models, tensors, nodes, labels and files come with models and data. Printed as they are,
one could clear the screen, forge a line of the log or show its letters in another order. So each
place that prints, and none that keeps, writes them with ``printable``.
"""

from __future__ import annotations

import json
import re

__all__ = ["ACTING", "printable", "printable_json"]

#: Control characters (ESC, newlines, C1), what separates lines and paragraphs, what changes the
#: direction or the order of letters, marks that are not seen, tags, and halves of surrogate pairs.
ACTING = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def printable(text: str, *, keep: str = "") -> str:
    r"""Return the text with characters that act instead of being read as Python writes them.

    Those in ``keep`` stay, such as the line ends of a text of several lines.

    >>> print(printable("net\x1b[2J\n\u202egnp.exe"), printable("größer, 模型"))
    net\x1b[2J\n\u202egnp.exe größer, 模型
    """
    return ACTING.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def printable_json(document: str) -> str:
    r"""Return a JSON document of the same values in which no character acts.

    >>> print(printable_json('{"a\u202eb": 1}'))
    {"a\u202eb": 1}
    """
    # They stand within strings alone, but for the line ends between values.
    return ACTING.sub(lambda found: found[0] if found[0] == "\n" else _json(found[0]), document)


def _json(character: str) -> str:
    return json.dumps(character)[1:-1]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
