"""The status page, opened in a browser against a server whose metrics change."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import cast

import pytest

from browser import Page, open_page, screenshot
from hasten.serve.engine.statistics import ModelStatistics
from hasten.serve.http.metrics import CONTENT_TYPE, ServerFigures, render_metrics
from hasten.serve.http.page import status_page

Models = Mapping[tuple[str, int], ModelStatistics]

#: The answer to the n-th request for metrics: a status and a body, or None to hang up.
Answers = Callable[[int], tuple[int, bytes] | None]


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = cast("_Server", self.server)
        server.asked.append(self.path)
        if self.path == "/":
            self._answer(200, "text/html; charset=utf-8", status_page())
        elif self.path == "/metrics":
            answer = server.answers(server.asked.count("/metrics") - 1)
            if answer is None:
                # Lingering for no time resets the connection.
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
            else:
                self._answer(answer[0], CONTENT_TYPE, answer[1])
        else:
            self._answer(404, "text/plain", b"")

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class _Server(ThreadingHTTPServer):
    def __init__(self, answers: Answers) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = answers
        self.asked: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"


@contextmanager
def serving(answers: Answers) -> Iterator[_Server]:
    with _Server(answers) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def metrics(models: Models, at: int = 0) -> tuple[int, bytes]:
    figures = ServerFigures(
        version="9.9",
        uptime_ns=(3700 + at) * 10**9,
        open_connections=32,
        resident_bytes=123_400_000,
        cache_bytes=1_500_000,
        cache_budget_bytes=64_000_000,
    )
    return 200, render_metrics(models, figures)


def busy(at: int, a_second: int = 1000) -> ModelStatistics:
    """After ``at`` seconds of so many requests, in batches of 8: 98 % take 1 ms, the rest 40 ms."""
    done = at * a_second
    statistics = ModelStatistics(
        queue_ns=done * 600_000,
        compute_input_ns=done * 10_000,
        compute_infer_ns=done * 300_000,
        compute_output_ns=done * 20_000,
        cache_hits=done // 4,
        cache_misses=done - done // 4,
        cache_saved_ns=done * 80_000,
        pending=17,
    )
    for latency_ns, share in ((1_000_000, 98), (40_000_000, 2)):
        statistics.answered(latency_ns)
        count = done * share // 100
        spot = statistics.latency_counts.index(1)
        statistics.latency_counts[spot] = count
    statistics.success_requests = done
    statistics.executed(8, 8, 0, 0, 0)
    statistics.batches[8].count = done // 8
    statistics.inferences = done
    statistics.executions = done // 8
    statistics.failures["REJECTED"] = at * 3
    return statistics


def watched(answers: Answers, seconds: int = 12) -> tuple[Page, list[str]]:
    with serving(answers) as server:
        page = open_page(server.url, seconds)
        return page, server.asked


def number(title: str, unit: str, words: str) -> float:
    """The first number that stands between this title and unit."""
    match = re.search(rf"{title} ([\d,.]+) {unit}", words)
    assert match is not None, words
    return float(match.group(1).replace(",", ""))


def test_rate_percentiles_batches_queue_and_cache_are_those_of_the_last_seconds() -> None:
    page, asked = watched(lambda at: metrics({("mlp", 1): busy(at)}, at))

    assert set(asked) == {"/", "/metrics"}
    assert 8 <= asked.count("/metrics") <= 14
    assert page.named("headline").words == "Serving 1 model"
    assert "Hasten 9.9" in page.named("server").words
    assert "Up for 1 h 1 min" in page.named("summary").words
    figures = page.named("figures").words
    assert number("answered", "/s", figures) == pytest.approx(1000, rel=0.1)
    assert number("refused or failed", "/s", figures) == pytest.approx(3, rel=0.1)
    assert number("p50", "ms", figures) == pytest.approx(1, rel=0.25)
    assert number("p90", "ms", figures) == pytest.approx(1, rel=0.25)
    assert number("p99", "ms", figures) == pytest.approx(40, rel=0.25)
    assert "Rows a batch 8.00" in figures
    assert "Waiting for an executor 17 600 µs on average" in figures
    assert "Answers from the cache 25 % 1.50 MB of 64.0 MB held" in figures
    assert "Memory 123 MB" in figures
    assert page.named("alarm").attributes.get("hidden") is not None


def test_an_open_model_shows_sizes_of_batches_and_where_time_goes() -> None:
    page, _ = watched(lambda at: metrics({("mlp", 3): busy(at)}, at))

    (model,) = page.all("model")
    assert "open" in model.attributes
    assert "version 3" in model.words
    assert "8.00 rows a batch" in model.words
    assert "100 % 5\N{EN DASH}8" in model.words
    assert "waiting 600 µs" in model.words
    assert "the model 400 µs" in model.words  # over the three quarters that were computed
    assert re.search(r"refused \d+", model.words)


def test_many_models_are_listed_folded_and_can_be_searched() -> None:
    models = {(f"model-{at}", 1): ModelStatistics() for at in range(40)}
    page, _ = watched(lambda at: metrics(models, at), 4)

    assert len(page.all("model")) == 40
    assert not any("open" in each.attributes for each in page.all("model"))
    (search,) = (each for each in page.elements if each.tag == "input")
    assert "hidden" not in search.attributes


def test_a_server_without_models_says_what_to_do() -> None:
    page, _ = watched(lambda at: metrics({}, at), 4)

    assert page.named("headline").words == "Serving no model"
    assert "hasten serve PATH" in page.named("models").words
    assert "NaN" not in page.named("figures").words


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=\"document.title='taken'\">",
        "</script><script>document.title='taken'</script>",
        'a"b\\c\nd} 5',
        "__proto__",
        "long-" * 60,
        "\u202eright to left",
    ],
)
def test_a_name_is_text_whatever_it_holds(name: str) -> None:
    page, asked = watched(lambda at: metrics({(name, 1): busy(at)}, at), 4)

    assert set(asked) == {"/", "/metrics"}
    assert not any(each.tag == "img" for each in page.elements)
    (title,) = (each for each in page.elements if each.tag == "title")
    assert title.words == "Hasten"
    (shown,) = page.all("name")
    assert " ".join(name.split()) in shown.words
    assert number("answered", "/s", page.named("figures").words) == pytest.approx(1000, rel=0.1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "no connection"),
        ((503, b""), "status 503"),
        ((200, b"# another program\n"), "not with Hasten's metrics"),
    ],
)
def test_it_is_said_plainly_when_the_server_stops_answering(
    answer: tuple[int, bytes] | None, reason: str
) -> None:
    page, asked = watched(lambda at: metrics({("mlp", 1): busy(at)}, at) if at < 4 else answer, 10)

    alarm = page.named("alarm")
    assert "hidden" not in alarm.attributes
    assert page.named("headline").words == "The server does not answer"
    assert "has not answered since" in alarm.words
    assert reason in alarm.words
    assert asked.count("/metrics") > 6  # it goes on asking
    assert "mlp" in page.named("models").words  # what was known stays


def test_the_alarm_ends_when_the_server_is_back_and_a_restart_starts_afresh() -> None:
    def answers(at: int) -> tuple[int, bytes] | None:
        if 4 <= at < 6:
            return None
        return metrics({("mlp", 1): busy(at if at < 4 else at - 6)}, at if at < 4 else at - 3000)

    page, _ = watched(answers, 14)

    assert "hidden" in page.named("alarm").attributes
    assert number("answered", "/s", page.named("figures").words) == pytest.approx(1000, rel=0.1)


def test_a_model_that_is_unloaded_leaves_the_page() -> None:
    both = {("mlp", 1): ModelStatistics(), ("lite0", 1): ModelStatistics()}
    page, _ = watched(lambda at: metrics(both if at < 3 else {("mlp", 1): both["mlp", 1]}, at), 8)

    assert [each.words for each in page.all("name")] == ["mlp version 1"]


def test_a_screenshot_is_more_than_a_blank_page(tmp_path: Path) -> None:
    with serving(lambda at: metrics({("mlp", 1): busy(at)}, at)) as server:
        for dark in (False, True):
            path = tmp_path / f"{dark}.png"
            screenshot(server.url, path, seconds=6, width=1000, height=900, dark=dark)
    light, dark_one = ((tmp_path / f"{dark}.png").read_bytes() for dark in (False, True))
    assert min(len(light), len(dark_one)) > 20_000
    assert light != dark_one


def test_the_page_is_whole_and_names_no_other_place() -> None:
    page = status_page().decode()
    addresses = re.findall(r"https?://[^\s\"'<]+", page)
    assert set(addresses) == {"http://www.w3.org/2000/svg"}
    assert "innerHTML" not in page
    assert "/* page" not in page
