"""What starting costs: `import hasten` and `hasten --help` load nothing heavy."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

HEAVY = {"torch", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "onnxslim", "numpy"}
HELP_CPU_S = 0.3


def modules_after(code: str) -> set[str]:
    """Top-level modules that are loaded when this code has run."""
    script = f"{code}\nimport json, sys\nsys.stderr.write(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return {name.partition(".")[0] for name in json.loads(done.stderr)}


def test_importing_the_package_loads_no_library() -> None:
    assert modules_after("import hasten") & HEAVY == set()


def test_help_loads_no_library() -> None:
    code = (
        "import sys; sys.argv = ['hasten', '--help']\n"
        "from hasten.cli.main import main\n"
        "try: main()\nexcept SystemExit as done: assert not done.code"
    )

    assert modules_after(code) & HEAVY == set()


def test_help_takes_less_than_its_allowance_of_processor_time() -> None:
    command = [str(Path(sys.executable).parent / "hasten"), "--help"]
    costs = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    # The least of five: a busy machine adds to processor time, nothing takes from it.
    assert min(costs) < HELP_CPU_S
