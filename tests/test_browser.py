"""What pages in browsers may ask, by the heads that browsers send, and what programs may."""

from __future__ import annotations

import contextlib
import socket

import pytest

from hasten.serve.http.browser import Browsers
from hasten.serve.http.exchange import HttpError

BROWSERS = Browsers(["models.example.com"])
MOZILLA = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"
CHROME = {"User-Agent": MOZILLA, "Accept-Language": "en-GB,en;q=0.9"}
#: A page on evil.example, and one whose name was pointed here after it was loaded.
FOREIGN = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
REBOUND = {"Host": "evil.example:8000"}
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def passes(method: str, fields: dict[str, str], browsers: Browsers = BROWSERS) -> bool:
    with contextlib.suppress(HttpError):
        browsers.require_own(
            method.encode(),
            [(name.lower().encode(), said.encode()) for name, said in fields.items()],
        )
        return True
    return False


@pytest.mark.parametrize(
    "fields",
    [
        {"Host": "127.0.0.1:8000", "User-Agent": "curl/8.5.0", "Accept": "*/*"},
        {"Host": "hasten.default.svc.cluster.local:8000", "User-Agent": "python-requests/2.32"},
        {"Host": "models.example.org", "User-Agent": "Go-http-client/1.1"},
        {"Host": "10.1.2.3:8000", "User-Agent": "kube-probe/1.31"},
        {"Host": "node.example.org:9090", "User-Agent": "Prometheus/3.0"},
        {"Host": "", "User-Agent": "tritonclient"},
        {},
        # Node's fetch speaks like a browser, of which it is none.
        {
            "Host": "hasten:8000",
            "User-Agent": "node",
            "Accept-Language": "*",
            "Sec-Fetch-Mode": "cors",
        },
    ],
)
def test_programs_are_not_asked_for_a_name(fields: dict[str, str]) -> None:
    assert passes("POST", fields)
    assert passes("GET", fields)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8000", "10.0.0.7", "[::1]:8000", "localhost:8000", "LOCALHOST", "hasten:8000"),
        *(
            "a.localhost:8000",
            "hasten.default.svc:8000",
            "models.example.com",
            socket.gethostname(),
        ),
    ],
)
def test_a_page_of_the_server_may_ask_under_any_of_its_names(host: str) -> None:
    own = CHROME | {"Host": host, "Sec-Fetch-Site": "same-origin"}
    assert passes("GET", own)
    assert passes("POST", own | {"Origin": f"http://{host}"})


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil.example"),
        *("models.example.com.evil.example", "evil@127.0.0.1", "127.0.0.1:8000@evil.example"),
        *("evil.example.", "", "[::1", "evil.example/127.0.0.1", "1.2.3", "0x7f.1"),
    ],
)
@pytest.mark.parametrize(
    "sign", [CHROME, {"Origin": "http://{}"}, {"Referer": "x"}, {"Cookie": "x"}]
)
def test_a_name_that_was_pointed_here_is_refused(host: str, sign: dict[str, str]) -> None:
    fields = {name: said.format(host) for name, said in sign.items()} | {"Host": host}
    assert not passes("GET", fields)
    assert not passes("POST", fields)


@pytest.mark.parametrize(
    "origin",
    [
        *("https://evil.example", "null", "", "http://127.0.0.1", "http://127.0.0.1:3000"),
        *(
            "http://localhost:8000",
            "file://",
            "chrome-extension://abc",
            "http://127.0.0.1:8000.evil",
        ),
    ],
)
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    for method in ("GET", "POST"):
        assert not passes(method, {"Host": "127.0.0.1:8000", "Origin": origin})


def test_a_page_behind_a_proxy_may_ask_where_its_name_was_given() -> None:
    page = CHROME | {"Host": "backend:8000", "Origin": "https://models.example.com"}
    assert passes("POST", page)
    assert not passes("POST", page, Browsers())
    behind = CHROME | {"Host": "models.example.com", "Origin": "https://models.example.com"}
    assert passes("POST", behind)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_only_a_link_from_another_site_may_be_followed(site: str) -> None:
    here = CHROME | {"Host": "localhost:8000", "Sec-Fetch-Site": site}
    assert not passes("GET", here | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"})
    assert not passes("GET", here | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"})
    assert not passes("POST", here | NAVIGATION)
    assert passes("GET", here | NAVIGATION)
    assert passes("GET", CHROME | {"Host": "localhost:8000", "Sec-Fetch-Site": "none"} | NAVIGATION)
