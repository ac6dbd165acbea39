"""SwiftShader, a Vulkan driver that needs no GPU: Debian's chromium-common brings it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

__all__ = ["use_swiftshader"]

_DRIVER = Path("/usr/lib/chromium/vk_swiftshader_icd.json")
_INSTALL = "apt-get install --no-install-recommends chromium-common libvulkan1"


def use_swiftshader(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let Vulkan find SwiftShader alone; skips without it, and fails where CI lacks it."""
    if not _DRIVER.exists() or not _has_loader():
        reason = f"there is no SwiftShader here (run: {_INSTALL})"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    monkeypatch.setenv("VK_ICD_FILENAMES", str(_DRIVER))
    monkeypatch.setenv("VK_DRIVER_FILES", str(_DRIVER))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))


def _has_loader() -> bool:
    try:
        ctypes.CDLL("libvulkan.so.1")
    except OSError:
        return False
    return True
