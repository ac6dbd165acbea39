"""The environment of the architectures: their packages, which see the project's own.

The packages are installed once, from PyPI, into a virtual environment in the cache folder. What the
project has already (torch, NumPy, ONNX Runtime) is not installed again: the running interpreter's
packages, and the very ``hasten`` that was imported here, are handed to children by PYTHONPATH.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import hasten
from hasten.cache_folder import cache_folder

__all__ = ["interpreter", "variables"]

_BENCHMARKS = Path(__file__).parent.parent
#: Installed without what they require: that would bring another torch.
_ARCHITECTURES = ("timm==1.0.31", "transformers==5.24.0", "segmentation-models-pytorch==0.6.0")
#: What those import, beside torch and NumPy.
_REQUIRED = ("safetensors", "huggingface-hub", "tokenizers", "regex", "tqdm", "typer", "pyyaml")
#: torchvision 0.28 goes with torch 2.13, 0.29 with 2.14.
_VISION_AHEAD = 15


def interpreter() -> Path:
    """Return the Python of the environment, which is made where it is not there yet.

    Raises RuntimeError with what was said when it cannot be made.
    """
    packages = (*_ARCHITECTURES, _torchvision())
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = cache_folder() / "architectures" / f"{python}-torch-{_torch()}"
    done, wanted = folder / "installed", "\n".join((*packages, *_REQUIRED))
    if not done.is_file() or done.read_text(encoding="utf-8") != wanted:
        _call(sys.executable, "-m", "venv", "--clear", str(folder))
        install = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
        _call(*install, "--no-deps", *packages)
        _call(*install, *_REQUIRED)
        done.write_text(wanted, encoding="utf-8")
    return folder / "bin" / "python"


def variables() -> dict[str, str]:
    """Return the environment variables of a child: one thread, no network, our packages."""
    paths = [Path(hasten.__file__).parent.parent, _BENCHMARKS, *_package_folders()]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_VERBOSITY": "error",
        "ORT_DISABLE_TELEMETRY": "1",
        "OMP_NUM_THREADS": "1",
    }


def _package_folders() -> list[Path]:
    """Return the folders of installed packages, those that a .pth file added included."""
    return [Path(path) for path in sys.path if Path(path).name.endswith("-packages")]


def _torch() -> str:
    return version("torch").partition("+")[0]


def _torchvision() -> str:
    """Return the torchvision that was built for the torch which is here."""
    _, minor, *_ = _torch().split(".")
    return f"torchvision==0.{int(minor) + _VISION_AHEAD}.*"


def _call(*command: str) -> None:
    done = subprocess.run(command, env=variables(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {' '.join((done.stdout + done.stderr).split())}")


if __name__ == "__main__":
    print(interpreter())
