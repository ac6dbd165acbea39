"""Who may control a server: nobody unless it was started so, no page in a browser, with a token."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from command_line import hasten
from inference_v2 import infer, jsonned, path_of
from served import EXPLICIT, Answer, Served, message, serving
from served_models import put_bundle, put_onnx, scaled

X = np.array([[1, 2, 3, 4]], np.float32)
LOAD, FILE = "/v2/repository/models/net/load", "/v2/models/net/file"
TOKEN = "correct-horse-battery-staple"  # noqa: S105
PAGE = {"Origin": "https://evil.example", "Content_Type": "text/plain"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    put_onnx(folder / "models" / "net.onnx", scaled())
    put_bundle(folder / "models" / "b", scaled())
    (folder / "models" / "b" / "report.html").write_text("<script>alert(1)</script>")
    (folder / "report.html").write_text("the neighbour's")
    (folder / "token").write_text(f"{TOKEN}\n")
    return folder / "models"


@pytest.fixture(scope="module")
def plain(models: Path) -> Iterator[Served]:
    with serving(models, folder=models.parent) as served:
        yield served


@pytest.fixture(scope="module")
def controlled(models: Path) -> Iterator[Served]:
    with serving(models, *EXPLICIT, "--serve-files", folder=models.parent) as served:
        yield served


def asked(server: Served, method: str, path: str, **headers: object) -> Answer:
    with server.connect() as client:
        return client.raw(message(method, path, b"", **headers))


# Off unless asked for


@pytest.mark.parametrize("verb", ["load", "unload"])
def test_models_are_not_loaded_and_unloaded_unless_it_was_asked_for(
    plain: Served, verb: str
) -> None:
    answer = plain.post(f"/v2/repository/models/net/{verb}")
    assert answer.status == 400
    assert "explicit model load / unload is not allowed" in answer.complaint
    assert plain.post(path_of("net"), jsonned({"x": X})).status == 200


def test_files_are_not_served_unless_it_was_asked_for(plain: Served) -> None:
    answer = plain.get(FILE)
    assert (answer.status, "--serve-files" in answer.complaint) == (403, True)


def test_the_index_can_be_read_and_names_no_folder(plain: Served, models: Path) -> None:
    answer = plain.post("/v2/repository/index")
    assert [one["name"] for one in answer.document] == ["b", "net"]
    assert str(models).encode() not in answer.body


# Pages in browsers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", LOAD),
        ("POST", LOAD.replace("/load", "/unload")),
        ("GET", FILE),
        ("GET", "/metrics"),
    ],
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Host": "evil.example:8000", "Accept_Language": "en"},
        {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
    ],
)
def test_a_foreign_page_reaches_nothing(
    controlled: Served, method: str, path: str, headers: dict[str, str]
) -> None:
    request = message(method, path, b"", **headers).replace(
        b"Host: test\r\n", b"", "Host" in headers
    )
    for _ in range(2):  # the second time its head would be known
        with controlled.connect() as client:
            assert client.raw(request).status == 403
            assert client.ended
    assert controlled.get("/v2/models/net/ready").status == 200


def test_a_foreign_page_gets_no_inference(controlled: Served) -> None:
    body = jsonned({"x": X})
    assert controlled.post(path_of("net"), body, **PAGE).status == 403
    assert controlled.post(path_of("net"), body, Content_Type="text/plain").status == 200


@pytest.mark.parametrize(
    "kind", ["text/plain", "Text/Plain; charset=utf-8", "application/x-www-form-urlencoded"]
)
def test_a_form_controls_nothing(controlled: Served, kind: str) -> None:
    for _ in range(2):
        answer = controlled.post(LOAD, b"{}", Content_Type=kind)
        assert (answer.status, "application/json" in answer.complaint) == (415, True)
    assert controlled.post(LOAD, b"{}", Content_Type="application/json").status == 200
    assert controlled.post(LOAD).status == 200


# Pages that are served


def test_the_status_page_is_shown_in_no_frame(plain: Served) -> None:
    headers = plain.get("/").headers
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    policy = re.search(rb'Content-Security-Policy" content="([^"]*)"', plain.get("/").body)
    assert policy is not None
    assert b"unsafe" not in policy[1]


def test_the_report_is_that_of_the_bundle_and_runs_nothing(plain: Served) -> None:
    answer = plain.get("/v2/models/b/report")
    assert answer.body == b"<script>alert(1)</script>"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script-src" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert plain.get("/v2/models/net/report").status == 404  # the neighbour's lies where it would


def test_what_never_ends_is_not_sent_as_a_file(models: Path, plain: Served) -> None:
    page = models / "b" / "report.html"
    words = page.read_bytes()
    page.unlink()
    os.mkfifo(page)
    try:
        answer = plain.get("/v2/models/b/report")
        assert (answer.status, "regular" in answer.complaint) == (404, True)
        assert plain.get("/v2/health/live").status == 200
    finally:
        page.unlink()
        page.write_bytes(words)


# A listener of its own, and a token


@pytest.fixture(scope="module")
def both(models: Path) -> Iterator[tuple[Served, Served]]:
    """The server as everyone sees it, and where it is controlled."""
    flags = (*EXPLICIT, "--serve-files", "--admin-port", 0, "--admin-token-file", "token")
    with serving(models, *flags, folder=models.parent) as served:
        assert served.process.stderr is not None
        said = re.search(r"controlled at http://(\S+):(\d+)", served.process.stderr.readline())
        assert said is not None
        yield served, Served(served.process, said[1], int(said[2]))


@pytest.mark.parametrize(("method", "path"), [("POST", LOAD), ("GET", FILE)])
def test_control_is_on_its_own_listener_alone_and_asks_for_the_token(
    both: tuple[Served, Served], method: str, path: str
) -> None:
    everyone, admin = both
    bearer = f"Bearer {TOKEN}"
    assert asked(everyone, method, path, Authorization=bearer).status == 403
    for wrong in (None, "", "Bearer", f"Basic {TOKEN}", f"{bearer}x", bearer[:-1], "Bearer \xff"):
        answer = asked(admin, method, path, Authorization=wrong)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert TOKEN not in answer.complaint
    for right in (bearer, f"bearer {TOKEN}", bearer):
        assert asked(admin, method, path, Authorization=right).status == 200
    assert asked(admin, method, path).status == 401


def test_models_answer_on_both_listeners(both: tuple[Served, Served]) -> None:
    for server in both:
        with server.connect() as client:
            assert client.raw(infer("net", {"x": X})).status == 200
            assert client.get("/v2/health/ready").status == 200


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--admin-port", 0), "--model-control-mode explicit or --serve-files"),
        (("--admin-token-file", "token"), "nothing to protect"),
        ((*EXPLICIT, "--admin-port", 0, "--admin-address", "::"), "--admin-token-file"),
        ((*EXPLICIT, "--admin-port", 70000), "--admin-port"),
        ((*EXPLICIT, "--admin-token-file", "nothing"), "--admin-token-file"),
        ((*EXPLICIT, "--admin-token-file", "short"), "16"),
        ((*EXPLICIT, "--admin-token-file", "spaced"), "other characters"),
        (("--model-control-mode", "poll"), "poll"),
    ],
)
def test_flags_without_effect_or_safety_are_refused(
    models: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[object, ...], said: str
) -> None:
    monkeypatch.chdir(models.parent)
    Path("short").write_text("secret")
    Path("spaced").write_text("two words that are long enough")
    complaint = hasten("serve", "models", "--http-port", 0, *flags).complaint
    assert said in complaint
    assert "secret" not in complaint
