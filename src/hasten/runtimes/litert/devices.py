"""What LiteRT can reach beside the processor: a GPU through WebGPU, and vendors' NPUs.

Nothing is believed that was not tried: a GPU counts as usable when a program of its own has run a
model on it, and a vendor's plugin is loaded in one to see whether it can be.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from hasten.runtimes.litert.gpu_log import adapter_of, failure_of
from hasten.runtimes.runtime import Device

__all__ = ["devices"]

#: The first run of a driver compiles shaders; one that takes longer hangs.
_LIMIT_S = 60.0
#: What decides which Vulkan driver is found.
_DRIVER_VARIABLES = (
    "VK_ICD_FILENAMES",
    "VK_DRIVER_FILES",
    "VK_ADD_DRIVER_FILES",
    "XDG_RUNTIME_DIR",
)
_VENDORS = {
    "google_tensor": "Google Tensor",
    "intel_openvino": "Intel OpenVINO",
    "mediatek": "MediaTek",
    "qualcomm": "Qualcomm",
    "samsung": "Samsung",
}


def devices() -> tuple[Device, ...]:
    """Return the GPU, then the NPU of each vendor that the package has a plugin for."""
    return _found(tuple(os.environ.get(name) for name in _DRIVER_VARIABLES))


@functools.cache
def _found(drivers: tuple[str | None, ...]) -> tuple[Device, ...]:
    del drivers  # it is what the answer depends on
    return (_gpu(), *_npus())


def _gpu() -> Device:
    folder = _package()
    if not list(folder.glob("libLiteRt*GpuAccelerator.*")):
        return _unusable("gpu", "this ai-edge-litert has no GPU accelerator")
    if sys.platform == "linux" and not _loads("libvulkan.so.1"):
        return _unusable("gpu", "there is no Vulkan loader (libvulkan.so.1)")
    status, said = _tried("hasten.runtimes.litert.gpu_trial")
    adapter = adapter_of(said)
    if status != 0 or adapter is None:
        return _unusable("gpu", _complaint(said, status))
    described = f"{adapter.name} ({adapter.kind})"
    return Device("gpu", description=described, software=adapter.software)


def _npus() -> list[Device]:
    """One device a vendor; each is tried in a process, since loading runs the vendor's code."""
    found = []
    for folder in sorted((_package() / "vendors").glob("*/")):
        plugins = sorted(folder.glob("compiler/*.so"))
        dispatch = sorted(folder.glob("dispatch/*.so"))
        if plugins or dispatch:
            found.append(_npu(folder.name, plugins, dispatch))
    return found


def _npu(vendor: str, plugins: list[Path], dispatch: list[Path]) -> Device:
    name, described = f"npu:{vendor}", f"{_VENDORS.get(vendor, vendor)} NPU"
    missing = [_needs(path) for path in (*plugins, *dispatch)]
    needs = list(dict.fromkeys(need for need in missing if need))
    if needs:
        reason = f"its libraries do not load: {'; '.join(needs)}"
    elif not dispatch:
        reason = (
            "its compiler loads, but the library that runs what it compiles (libLiteRtDispatch)"
            " comes with the device's own system"
        )
    else:
        reason = "its libraries load, but Hasten runs nothing on NPUs yet"
    return Device(name, usable=False, description=described, reason=reason)


def _needs(library: Path) -> str:
    """What a library lacks here; empty where it loads."""
    code = "import ctypes, sys; ctypes.CDLL(sys.argv[1])"
    done = _run([sys.executable, "-I", "-S", "-c", code, str(library)])
    if done is None:
        return f"{library.name} hangs"
    lines = done.stderr.strip().splitlines()
    if done.returncode == 0:
        return ""
    last = lines[-1] if lines else f"exit status {done.returncode}"
    return last.removeprefix("OSError: ").replace(f"{library.parent}{os.sep}", "")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _tried(module: str) -> tuple[int | None, str]:
    """Exit status of a module run as a program, None where it hangs, and what it printed."""
    done = _run([sys.executable, "-P", "-m", module])
    return (None, "") if done is None else (done.returncode, done.stderr)


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None


def _complaint(said: str, status: int | None) -> str:
    """Why a trial failed: what the accelerator printed, or how it ended."""
    if status is None:
        return f"a small model did not finish on it within {_LIMIT_S:.0f} s"
    if reason := failure_of(said):
        return reason
    if status < 0:
        return f"a small model crashed on it (signal {-status})"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else f"a small model failed on it (exit status {status})"


def _unusable(name: str, reason: str) -> Device:
    return Device(name, usable=False, reason=reason)


def _package() -> Path:
    spec = importlib.util.find_spec("ai_edge_litert")
    return Path(spec.origin).parent if spec and spec.origin else Path()
