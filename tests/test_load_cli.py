"""``hasten load`` as a user meets it, against a server that computes nothing."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import Done, hasten
from null_server import null_server

pytestmark = pytest.mark.usefixtures("place")

BRIEF = ("--duration=0.3s", "--warm-up=0")
X = np.arange(40, dtype=np.float32).reshape(10, 4)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with null_server() as found:
        yield found


def load(url: str, *arguments: object) -> Done:
    given = [str(argument).partition("=")[0] for argument in arguments]
    brief = [flag for flag in BRIEF if flag.partition("=")[0] not in given]
    return hasten("load", url, *brief, *arguments)


def saved(name: str, **arrays: Any) -> str:
    np.savez(name, **arrays)
    return name


def test_a_closed_loop_is_the_default_and_prints_a_table(url: str) -> None:
    done = load(url, "--model=null")

    assert (done.status, done.err) == (0, "")
    assert f"null at {url}" in done.out
    for row in ("requests/s", "latency p50", "latency p99.9", "missed"):
        assert row in done.out


def test_the_only_model_need_not_be_named(url: str) -> None:
    assert load(url, "--json").document["model"] == "null"


@pytest.mark.parametrize(
    ("scenario", "unit", "batch"),
    [
        ("closed", "requests/s", 1),
        ("offline", "samples/s", 1),
        ("single-stream", "ms p90", 1),
        ("multi-stream", "ms p99", 8),
    ],
)
def test_each_scenario_has_its_own_figure(url: str, scenario: str, unit: str, batch: int) -> None:
    found = load(url, f"--scenario={scenario}", "--json").document

    assert (found["scenario"], found["figure_unit"]) == (scenario, unit)
    assert found["samples_per_query"] == batch
    assert found["figure"] > 0
    assert (found["answered"], found["misses"]) == (found["issued"], {})


@pytest.mark.parametrize("arrivals", ["constant", "poisson"])
def test_a_rate_makes_it_an_open_loop(url: str, arrivals: str) -> None:
    found = load(url, "--rate=200", f"--arrivals={arrivals}", "--json").document

    assert (found["scenario"], found["arrivals"]) == ("server", arrivals)
    assert found["issued"] == pytest.approx(60, abs=25)
    assert (found["offered_per_s"], found["concurrency"]) == (200, None)


def test_a_recording_is_replayed(url: str) -> None:
    Path("times").write_text("0\n0.01\n0.02\n")
    found = load(url, "--arrivals=times", "--json").document

    assert (found["arrivals"], found["issued"]) == ("replay", 3)


def test_queries_are_sent_however_long_it_takes(url: str) -> None:
    found = load(url, "--duration=0.01s", "--queries=700", "--json").document

    assert found["issued"] >= 700


def test_a_run_that_is_shorter_than_mlperf_asks_says_so(url: str) -> None:
    notes = load(url, "--scenario=offline", "--json").document["notes"]

    assert any("of the 600 that MLPerf asks of offline" in note for note in notes)


@pytest.mark.parametrize("tensors", ["binary", "json"])
def test_right_answers_are_found_right_under_load(url: str, tensors: str) -> None:
    data = saved("data.npz", x=X, labels=np.full(10, 3))
    expected = saved("expected.npz", y=2 * X)
    found = load(
        url, f"--data={data}", f"--expected={expected}", f"--tensors={tensors}", "--json"
    ).document

    answers = found["answers"]
    assert answers["checked"] == found["answered"] > 10
    assert (answers["wrong"], answers["unreadable"], answers["unchecked"]) == (0, 0, 0)
    assert (answers["top1"], answers["largest_difference"]) == (1.0, 0.0)


def test_wrong_answers_under_load_are_counted_and_fail_the_run() -> None:
    data, expected = saved("data.npz", x=X), saved("expected.npz", y=2 * X)
    with null_server(wrong_every=4) as url:
        done = load(url, f"--data={data}", f"--expected={expected}", "--json")

    answers = done.document["answers"]
    assert done.status == 1
    assert answers["wrong"] == pytest.approx(answers["checked"] / 4, rel=0.3)
    assert "right answers" in done.document["unmet"][0]


def test_answers_that_are_no_answers_fail_the_run() -> None:
    data = saved("data.npz", x=X, labels=np.zeros(10, np.int64))
    with null_server(canned=True) as url:
        done = load(url, f"--data={data}")

    assert done.status == 1
    assert "cannot be read" in " ".join(done.out.split())


def test_misses_break_the_goal_and_the_first_is_told() -> None:
    with null_server(error_every=5) as url:
        done = load(url, "--p99-ms=1000")

    assert done.status == 1
    assert "NOT MET: p99 within 1000 ms" in done.out
    assert 'status 500: {"error": "on purpose"}' in done.out


def test_a_goal_that_is_met_ends_well(url: str) -> None:
    assert load(url, "--p99-ms=5000", "--json").document["unmet"] == []


def test_the_page_needs_nothing_from_elsewhere(url: str) -> None:
    done = load(url, "--page=load.html")
    text = Path("load.html").read_text()

    assert "load.html" in done.out
    assert text.startswith("<!doctype html>")
    assert "Latency by percentile" in text
    assert "http-equiv" in text
    assert 'src="' not in text
    assert "<script" not in text


def test_a_page_that_is_there_stays() -> None:
    Path("load.html").write_text("mine")
    complaint = load("http://127.0.0.1:9", "--page=load.html").complaint

    assert "--force" in complaint
    assert Path("load.html").read_text() == "mine"


def test_two_servers_are_loaded_in_turns_and_set_side_by_side(url: str) -> None:
    with null_server(delay_ms=20) as slow:
        done = load(url, "--model=null", f"--against={slow}", "--page=both.html", "--json")

    found = done.document
    assert (found["a"]["url"], found["b"]["url"]) == (url, slow)
    assert [one["figure"] for one in found["ratios"]] == ["requests/s", "p50", "p90", "p99"]
    assert found["ratios"][0]["gain"]["median"] < 0.8
    assert "Before and after" in Path("both.html").read_text()


def test_the_limit_of_a_server_is_found_with_its_trials() -> None:
    with null_server(refuse_above=200) as url:
        done = hasten(
            "load", url, "--find-limit", "--p99-ms=2000", "--rate=50", "--arrivals=constant",
            "--duration=0.5s", "--page=limit.html", "--json",
        )  # fmt: skip

    found = done.document
    assert done.status == 0, found
    assert found["rate_per_s"] == pytest.approx(200, rel=0.15)
    assert found["confirmations"] == 3
    assert found["at"]["offered_per_s"] == found["rate_per_s"]
    assert "Search for the limit" in Path("limit.html").read_text()


# Bad input: one line, status 2


@pytest.mark.parametrize(
    "text", ["nowhere", "https://localhost", "http://", "http://a:b", "ftp://a"]
)
def test_what_is_no_url_is_refused(text: str) -> None:
    assert "Expected a URL such as http://127.0.0.1:8000" in load(text).complaint


def test_nobody_who_listens_is_named() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        complaint = load(url, "--model=null").complaint

    assert f"Expected a server that listens, got Connection refused - at {url}" in complaint


def test_an_unknown_model_is_named(url: str) -> None:
    complaint = load(url, "--model=absent").complaint

    assert f"got 'absent': unknown model - at --model, {url}" in complaint


class Other(http.server.BaseHTTPRequestHandler):
    """Knows nothing, and is silent about it."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def test_a_server_of_another_kind_is_refused() -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), Other)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        complaint = load(f"http://127.0.0.1:{server.server_port}", "--model=null").complaint
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

    assert complaint.startswith("Expected ")
    assert "got status 501" in complaint


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--rate=0"], "Expected a number above 0, got 0 - at --rate"),
        (["--rate=-3"], "got -3 - at --rate"),
        (["--rate=nan"], "got nan - at --rate"),
        (["--rate=5", "--scenario=closed"], "Expected --scenario server"),
        (["--scenario=server"], "Expected a rate to send at, got none - at --rate"),
        (["--concurrency=0"], "Expected 1 or more, got 0 - at --concurrency"),
        (["--concurrency=4", "--rate=5"], "at --concurrency"),
        (["--concurrency=4", "--scenario=single-stream"], "one request at a time"),
        (["--batch=0"], "at --batch"),
        (["--queries=-1"], "at --queries"),
        (["--duration=soon"], "Expected a time such as 90s or 5m, got 'soon' - at --duration"),
        (["--timeout=0"], "at --timeout"),
        (["--find-limit"], "Expected --p99-ms"),
        (["--find-limit", "--p99-ms=5", "--scenario=closed"], "Expected --scenario server"),
        (["--find-limit", "--p99-ms=5", "--against=http://127.0.0.1:9"], "Expected one server"),
        (["--p99-ms=0"], "at --p99-ms"),
        (["--expected=e.npz"], "Expected --data, for what the expected outputs are of"),
        (["--arrivals=absent"], "Expected constant, poisson or a file of arrivals"),
        (["--arrivals=absent", "--rate=3"], "Expected no --rate"),
        (["--data=absent.npz"], "Expected an .npz file, got no such file"),
    ],
)
def test_flags_that_cannot_be_are_refused(url: str, flags: list[str], complaint: str) -> None:
    assert complaint in load(url, *flags).complaint


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"z": X}, "Expected an array 'x', got 'z' - at data.npz"),
        ({"x": X[:, :3]}, "Expected items of [4] for float32[?,4], got [3] - at data.npz: x"),
        ({"x": X.astype(np.float64)}, "Expected float32, got float64 - at data.npz: x"),
    ],
)
def test_data_that_does_not_fit_is_refused(
    url: str, arrays: dict[str, Any], complaint: str
) -> None:
    assert complaint in load(url, f"--data={saved('data.npz', **arrays)}").complaint


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"z": X}, "Expected only the model's outputs 'y', got an array 'z'"),
        ({"y": X[:5]}, "Expected 10 rows, one for each of data.npz, got 5"),
        ({"y": X[:, :3]}, "Expected float32[?,4], got an array of shape [10, 3]"),
    ],
)
def test_expected_outputs_that_do_not_fit_are_refused(
    url: str, arrays: dict[str, Any], complaint: str
) -> None:
    data = saved("data.npz", x=X)
    expected = saved("expected.npz", **arrays)

    assert complaint in load(url, f"--data={data}", f"--expected={expected}").complaint
