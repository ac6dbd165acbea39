"""The status page at ``/``: one document that asks for ``/metrics`` and for nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources

__all__ = ["status_page"]

#: In the order in which they need one another.
_SCRIPTS = ("readings.js", "drawing.js", "model.js", "page.js")


@functools.cache
def status_page() -> bytes:
    """Return the page as UTF-8 HTML, with its style and its scripts inside.

    Its policy allows this one script by its hash, so that nothing that a model is called could
    run even where a mistake let it into the markup.
    """
    script = "\n" + "\n".join(_read(name) for name in _SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _read("page.html")
    for mark, part in (
        ("'sha256'", f"'sha256-{digest}'"),
        ("/* page.css */", "\n" + _read("page.css")),
        ("/* page.js */", script),
    ):
        page = page.replace(mark, part, 1)
    return page.encode()


def _read(name: str) -> str:
    folder = resources.files("hasten.serve.http") / "templates"
    return (folder / name).read_text(encoding="utf-8")
