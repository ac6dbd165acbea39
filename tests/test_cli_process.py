"""The command line as a process: interrupted, unread, or without a package that it needs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import OUT, Done, finish, start
from nets import SIDE, null_net

pytestmark = pytest.mark.usefixtures("place")


# What is not installed


def without(package: str, *arguments: object, folder: Path) -> Done:
    """Run a verb in a process that cannot import a package."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules['{package}'] = None\n")
    return finish(start(*arguments, folder=folder, environment={"PYTHONPATH": str(folder)}))


def test_a_runtime_that_is_not_installed_comes_with_its_command(
    net: Path, data: Path, place: Path
) -> None:
    done = without(
        "openvino",
        *("optimize", net, "--data", data, "--out", OUT, "--runtime", "openvino"),
        folder=place,
    )
    assert "pip install 'hasten[openvino]'" in done.complaint
    assert not (place / OUT).exists()


def test_images_without_their_extra_come_with_its_command(net: Path, place: Path) -> None:
    from PIL import Image

    for label in ("a", "b"):
        (place / "images" / label).mkdir(parents=True)
        Image.new("RGB", (SIDE, SIDE)).save(place / "images" / label / "0.png")
    done = without(
        "PIL",
        *("optimize", net, "--data", "images", "--out", OUT),
        *("--preprocess", f"size={SIDE}x{SIDE}"),
        folder=place,
    )
    assert "pip install 'hasten[images]'" in done.complaint


# Interrupts and pipes


def test_an_interrupt_before_anything_was_measured_leaves_nothing(place: Path) -> None:
    net = null_net(place / "null.onnx", fail="hang_compile")
    process = start(
        *("optimize", net, "--runtime", "null", "--out", OUT, "--time", "60s"), folder=place
    )
    wait_for_worker(process)
    process.send_signal(signal.SIGINT)
    done = finish(process)
    assert done.status == 130
    assert done.err == ("hasten: interrupted before anything was measured; nothing was written\n")
    assert not (place / OUT).exists()


def wait_for_worker(process: subprocess.Popen[str]) -> None:
    """Wait until it has started a process of its own."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while not children.read_text().strip():
        assert process.poll() is None


@pytest.mark.parametrize("arguments", [["--help"], ["bench", "--help"], ["--version"]])
def test_a_reader_that_leaves_early_is_no_error(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", "from hasten.cli.main import main; main()", *arguments],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1
