"""What a page in a browser may ask: nothing across origins, and nothing by a name that is not ours.

A browser sends requests to any address for any page that it shows, and a name that a page was
loaded from can be pointed at this machine afterwards (DNS rebinding): the page then reads answers
as its own. Programs are not used that way, so only requests with a sign of a browser are looked at,
and a service's name in a cluster or behind a proxy needs no setting for them. It is a matter of the
head alone: one that was let through is remembered with all others and not looked at again.

Sources: Fetch Metadata Request Headers (W3C), "Origin" in the Fetch standard.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from hasten.serve.http.exchange import HttpError

__all__ = ["Browsers"]

#: What browsers send and, but for the last, a page cannot leave out; programs hardly ever do.
_SIGNS = frozenset(
    {b"origin", b"sec-fetch-site", b"sec-fetch-dest", b"referer", b"cookie", b"accept-language"}
)
#: What the sites of a request are called that is a page's own, or the user's.
_OWN_SITES = frozenset({b"same-origin", b"none"})
_READ = frozenset({b"GET", b"HEAD"})
#: Names that nobody can register, so that no stranger's page was loaded from there.
_PRIVATE = (".localhost", ".internal", ".svc", ".cluster.local")
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


class Browsers:
    """Lets a browser's request through where the page is this server's own.

    ``hosts`` are the names under which browsers find the server, beside addresses, ``localhost``,
    the machine's own name and names that cannot be registered: those of one label, and those of
    services in a cluster.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        machine = socket.gethostname().lower()
        self._given = frozenset(host.lower() for host in hosts)
        self._hosts = self._given | {"localhost", machine, f"{machine.partition('.')[0]}.local"}

    def require_own(self, method: bytes, fields: Sequence[tuple[bytes, bytes]]) -> None:
        """Raise HttpError for a request of a foreign page; names of ``fields`` are in lower case.

        A link from another page to one of this server's may be followed: it only reads, and what it
        reads is shown to the user and not to the other page.
        """
        said = dict(fields)
        if _SIGNS.isdisjoint(said) and not said.get(b"user-agent", b"").startswith(b"Mozilla/"):
            return
        host = said.get(b"host", b"").decode("latin-1").lower()
        if not self._is_ours(host):
            raise _refusal(
                f"a name of this server in Host, got {host!r}"
                " (hasten serve --allowed-host NAME adds one)"
            )
        origin = said.get(b"origin")
        if origin is not None and not self._is_own(origin.decode("latin-1").lower(), host):
            raise _refusal(f"a page of this server, got one of {origin.decode('latin-1')!r}")
        followed = method in _READ and said.get(b"sec-fetch-mode") == b"navigate"
        followed = followed and said.get(b"sec-fetch-dest") == b"document"
        site = said.get(b"sec-fetch-site", b"none").lower()
        if site not in _OWN_SITES and not followed:
            raise _refusal(f"a page of this server, got one that is {site.decode('latin-1')!r}")

    def _is_ours(self, host: str) -> bool:
        name = _name(host)
        if not name:
            return False
        if name in self._hosts or name.endswith(_PRIVATE):
            return True
        return "." not in name.rstrip(".") or _is_address(name)

    def _is_own(self, origin: str, host: str) -> bool:
        scheme, _, place = origin.partition("://")
        port = _DEFAULT_PORTS.get(scheme)
        if port is None:
            return False
        return place.removesuffix(port) == host.removesuffix(port) or _name(place) in self._given


def _name(host: str) -> str:
    """Return a host without its port and brackets; empty where it is none."""
    try:
        parts = urlsplit(f"//{host}")
        plain = parts.netloc == host and parts.username is None
        return (parts.hostname or "") if plain else ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refusal(why: str) -> HttpError:
    return HttpError(403, f"Expected {why}", closes=True)
