"""Nothing is told to anyone: what libraries would report is switched off before they are imported.

ONNX Runtime keeps events in ``~/.cache/Microsoft`` and sends them from a thread of its own;
``disable_telemetry_events`` comes after that has begun, its variable does not. OpenVINO counts
conversions and imports through the package ``openvino-telemetry``, which leaves files in
``~/intel`` and asks no variable; without that package OpenVINO uses a stub of its own. Nothing is
written to the user's home to opt out.
"""

from __future__ import annotations

import os
import sys

__all__ = ["switch_off"]

#: Read by ONNX Runtime, Hugging Face's libraries (in a user's own callables), and by many others.
_VARIABLES = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
#: A package that is None here cannot be imported, as if it were not installed.
_PACKAGES = ("openvino_telemetry",)


def switch_off() -> None:
    """Switch reports off in this process and all it starts, where the user has not chosen."""
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    for package in _PACKAGES:
        sys.modules.setdefault(package, None)  # type: ignore[arg-type]
