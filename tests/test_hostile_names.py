"""Names that act on a terminal, in models, data, files and requests, through each verb."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from command_line import Done, hasten
from hasten.cli.terminal import readable
from hasten.printable import ACTING, printable
from hasten.report.html import page_environment
from onnx_models import model, value
from served import EXPLICIT, Served, serving
from served_models import put_onnx, scaled

#: It clears the screen, forges a line, turns the order of letters, and is rich's and HTML's markup.
NAME = "x\x1b[2J\nVOID: forged\u202egnp\x9b1m[bold red]a[/]<script>alert(1)</script>"
#: The same where a name is a file's.
FILE = NAME.replace("/", "")


def hostile() -> onnx.ModelProto:
    """y = x @ w, and every name in it acts."""
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), f"w{NAME}")
    node = helper.make_node("MatMul", [f"in{NAME}", f"w{NAME}"], [f"out{NAME}"], name=f"n{NAME}")
    ends = [value(f"in{NAME}", ["n", 4])], [value(f"out{NAME}", ["n", 3])]
    return model([node], *ends, [weight])


def harmless(done: Done, *statuses: int) -> None:
    """See that nothing acts in what was printed, and that there was no traceback."""
    assert done.status in statuses, done.err
    assert "Traceback" not in done.err
    for text in (done.out, done.err):
        assert not [found for found in ACTING.findall(text) if found != "\n"]
        assert not re.search(r"^\W*VOID: forged", text, re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    put_onnx(Path(f"{FILE}.onnx"), hostile())
    x = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
    for path, name in (("data.npz", f"in{NAME}".replace("/", "_")), ("other.npz", FILE)):
        arrays: dict[str, Any] = {name: x}
        np.savez(path, **arrays)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("bench", f"{FILE}.onnx", "--rounds", 2),
        ("bench", f"{FILE}.onnx", "--rounds", 2, "--json"),
        ("compare", f"{FILE}.onnx", f"{FILE}.onnx", "--rounds", 2),
        ("convert", f"{FILE}.onnx", "--to", "tflite", "--out", f"{FILE}.tflite", "--report-ops"),
        ("quantize", f"{FILE}.onnx", "--method", "dynamic", "--out", f"{FILE}.q.onnx"),
        ("optimize", f"{FILE}.onnx", "--data", "other.npz", "--out", FILE),
        ("prune", FILE, "--out", "p.onnx"),
        ("doctor", FILE),
        ("serve", f"{FILE}.onnx", "--http-port", 0),
        ("serve", FILE),
        ("load", FILE),
        ("load", f"http://127.0.0.1:9/{NAME}", "--model", NAME),
        (NAME,),
        ("bench", "net.onnx", f"--{NAME}"),
    ],
)
def test_a_verb_prints_nothing_that_acts(folder: Path, arguments: tuple[object, ...]) -> None:
    harmless(hasten(*arguments), 0, 1, 2)


def test_the_report_of_a_bundle_prints_and_shows_nothing_that_acts(folder: Path) -> None:
    name = f"in{NAME}".replace("/", "_")
    weight = numpy_helper.from_array(np.ones((4, 3), np.float32), "w")
    node = helper.make_node("MatMul", [name, "w"], ["y"])
    put_onnx(
        Path("net.onnx"), model([node], [value(name, ["n", 4])], [value("y", ["n", 3])], [weight])
    )
    done = hasten(
        "optimize", "net.onnx", "--data", "data.npz", "--out", "b.hasten", "--time", "20s"
    )
    harmless(done, 0, 1)
    page = (folder / "b.hasten" / "report.html").read_text()
    assert not [found for found in ACTING.findall(page) if found not in "\n\t"]
    assert "<script" not in page
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    assert "unsafe" not in policy[1]
    assert "style=" not in page


# A server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Served]:
    put_onnx(tmp_path / "models" / "net.onnx", scaled())
    (tmp_path / "models" / f"{FILE}.onnx").write_bytes(b"nonsense")
    with serving(tmp_path / "models", *EXPLICIT, folder=tmp_path) as served:
        yield served


def harmless_body(body: bytes) -> None:
    assert not [found for found in ACTING.findall(body.decode()) if found != "\n"]


def test_a_server_logs_and_answers_nothing_that_acts(server: Served) -> None:
    assert server.post("/v2/repository/models/%1b%5b2J/load").status == 404
    asked = ("/v2/models/%1b%5b2J%e2%80%ae", "/v2/repository/index", "/metrics", "/v2/%c2%9b%0a")
    for path in asked:
        harmless_body(server.get(path).body)
    named = [one["name"] for one in server.get("/v2/repository/index").document]
    assert FILE in named  # it is the same name, in other letters
    done = server.stop()
    harmless(done, 0)
    assert "is not served" in done.err


# The mechanism


@given(st.text())
def test_what_is_printable_has_nothing_that_acts_and_loses_nothing(text: str) -> None:
    shown = printable(text)
    assert not ACTING.search(shown)
    assert shown == text or ACTING.search(text)
    assert printable(shown) == shown
    assert printable(text, keep="\n").count("\n") == text.count("\n")


class Inner(msgspec.Struct, frozen=True):
    name: str
    values: dict[str, tuple[str, int]]


def test_every_text_of_a_result_is_readable_and_the_rest_is_as_it_was() -> None:
    found = [Inner("a\x1b", {"k\n": ("v\u202e", 1)}), Path("p"), 1.5, None]
    assert readable(found) == [Inner("a\\x1b", {"k\\n": ("v\\u202e", 1)}), Path("p"), 1.5, None]
    plain = Inner("a", {"k": ("v", 1)})
    assert readable(plain) == plain


def test_templates_show_nothing_that_acts() -> None:
    template = page_environment().from_string("<p>{{ name }}</p>")
    shown = template.render(name=NAME)
    assert "<script" not in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown
