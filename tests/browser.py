"""Headless Chromium: what a page looks like to somebody who opened it some seconds ago.

A test that opens one is skipped where there is no Chromium, and fails where CI lacks it.
"""

from __future__ import annotations

import subprocess
import tempfile
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from programs import require_program

__all__ = ["Element", "Page", "open_page", "screenshot"]

_QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--hide-scrollbars",
)
_PATIENCE_S = 90


class Element(NamedTuple):
    """A tag with its attributes, and all text below it."""

    tag: str
    attributes: dict[str, str | None]
    text: list[str]

    @property
    def words(self) -> str:
        """The text with its spaces joined."""
        return " ".join(" ".join(self.text).split())


class Page(HTMLParser):
    """The document after its scripts have run."""

    _VOID = frozenset({"meta", "link", "input", "br", "img"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, dict(attrs), [])
        self.elements.append(element)
        if tag not in self._VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().tag != tag:
            pass

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text.append(data)

    def all(self, kind: str) -> list[Element]:
        """Return the elements of this class."""
        return [
            each for each in self.elements if kind in (each.attributes.get("class") or "").split()
        ]

    def named(self, name: str) -> Element:
        """Return the element of this id."""
        return next(each for each in self.elements if each.attributes.get("id") == name)


def open_page(url: str, seconds: int, *flags: str) -> Page:
    """Let the page run for so many seconds of its own clock, which does not wait, and read it."""
    return Page(_chromium(*flags, f"--virtual-time-budget={seconds * 1000}", "--dump-dom", url))


def screenshot(
    url: str, path: Path, *, seconds: int, width: int, height: int, dark: bool = False
) -> None:
    """Write what is seen after so many seconds of the page's clock as a PNG."""
    _chromium(
        f"--virtual-time-budget={seconds * 1000}",
        f"--window-size={width},{height}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        f"--screenshot={path}",
        url,
    )


def _chromium(*arguments: str) -> str:
    program = require_program("chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        done = subprocess.run(
            [program, *_QUIET, f"--user-data-dir={profile}", *arguments],
            capture_output=True,
            timeout=_PATIENCE_S,
            check=True,
        )
    return done.stdout.decode()
