"""The status page at ``/``: one document that asks for ``/metrics`` and for nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources

__all__ = ["PAGE_HEADERS", "REPORT_HEADERS", "status_page"]

#: For every page: no other site shows it in a frame, and nothing learns of it by a link from it.
PAGE_HEADERS = (
    "Content-Security-Policy: frame-ancestors 'none'",
    "X-Content-Type-Options: nosniff",
    "X-Frame-Options: DENY",
    "Referrer-Policy: no-referrer",
)
#: A report came with its bundle, so it is a stranger's page: it runs nothing, asks for nothing,
#: sends nothing, and is of no origin, so that it has no part in this server's.
REPORT_HEADERS = (
    "Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'; img-src data:;"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    *PAGE_HEADERS[2:],
    "Cross-Origin-Opener-Policy: same-origin",
)

#: In the order in which they need one another.
_SCRIPTS = ("readings.js", "drawing.js", "model.js", "page.js")


@functools.cache
def status_page() -> bytes:
    """Return the page as UTF-8 HTML, with its style and its scripts inside.

    Its policy allows this one script and this one style by their hashes, so that nothing that a
    model is called could run even where a mistake let it into the markup.
    """
    script = "\n" + "\n".join(_read(name) for name in _SCRIPTS)
    style = "\n" + _read("page.css")
    page = _read("page.html")
    for mark, part in (
        ("'script-sha256'", _hash(script)),
        ("'style-sha256'", _hash(style)),
        ("/* page.css */", style),
        ("/* page.js */", script),
    ):
        page = page.replace(mark, part, 1)
    return page.encode()


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _read(name: str) -> str:
    folder = resources.files("hasten.serve.http") / "templates"
    return (folder / name).read_text(encoding="utf-8")
