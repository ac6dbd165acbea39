"""Programs of the system that some tests need."""

from __future__ import annotations

import os
import shutil

import pytest

__all__ = ["require_program"]


def require_program(name: str) -> str:
    """Return where a program is; its test is skipped where there is none, and fails where CI is."""
    found = shutil.which(name)
    if found is None:
        reason = f"there is no {name} here (run: apt-get install {name})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found
