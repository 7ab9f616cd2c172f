"""Which pool gets a request, by its host and path; the table as it is configured, and as it is asked.

What a pool is, and that it exists, is the host's subject.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs

from twisted_rr.config import key, kinds

OWN = "http"
"""The name by which a route leads to ``http.pool``."""


def _path(text: str) -> str:
    if not text.startswith("/") or any(letter in text for letter in "?#*") or not text.isascii():
        raise ValueError
    return text


def _host(text: str) -> str:
    text = text.lower()
    name = text[2:] if text.startswith("*.") else text[:-2] if text.endswith(".*") else text
    if not name or any(letter in name for letter in "*/@ ,") or (":" in name and not name.startswith("[")):
        raise ValueError
    return text


@attrs.frozen(kw_only=True)
class RouteSettings:
    """One entry of ``http.routes``: requests that go to another pool than ``http.pool``."""

    pool: str = key(
        kinds.string("a name", r".+"),
        required=True,
        doc="a name under pools; http is http.pool",
    )
    path: str = key(
        kinds.custom("the beginning of a path such as /admin", _path),
        default="",
        doc="this path and those below it; with a / at its end only those below it",
    )
    host: str = key(
        kinds.custom("a host such as api.example.com, *.example.com or admin.*, without a port", _host),
        default="",
        doc="only requests for this host; with *. before it or .* behind it: for all such hosts",
    )

    def problems(self) -> Iterable[tuple[str, str]]:
        """A route for everything would be no route."""
        if not self.path and not self.host:
            yield "", "needs a path, a host, or both: everything else goes to http.pool anyway"

    @property
    def what(self) -> tuple[str, str]:
        """What it takes; two routes with the same cannot both be reached."""
        return self.host, "" if self.path == "/" else self.path


def route_table() -> kinds.Kind:
    """The list of routes; one that can never be reached is refused where it stands."""
    text = "is never reached: the route at {first} takes the same requests"
    return kinds.distinct(kinds.section(RouteSettings), lambda route: route.what, text)


class Routes:
    """The table as it is asked, once a request: the first match counts, and the narrowest comes first.

    An exact host is narrower than a pattern, a pattern than any host, and among equals the longest path.

    :ivar pools: every one that it leads to, the front's own first.
    """

    __slots__ = ("_any", "_hosts", "_own", "_patterns", "pools")

    def __init__(self, routes: Sequence[RouteSettings], own: Any, pool_of: Callable[[str, int], Any]) -> None:
        """*own* gets what no route takes; ``pool_of(name, index)`` gives the pool of route *index*."""
        self._own = own
        found = [own]
        self._hosts: dict[bytes, list[tuple[bytes, bytes, Any]]] = {}
        self._patterns: list[tuple[bytes, list[tuple[bytes, bytes, Any]]]] = []
        self._any: list[tuple[bytes, bytes, Any]] = []
        patterns: dict[bytes, list[tuple[bytes, bytes, Any]]] = {}
        for index, route in sorted(enumerate(routes), key=lambda pair: -len(pair[1].what[1])):
            pool = own if route.pool == OWN else pool_of(route.pool, index)
            found.append(pool)
            path = route.what[1].encode()
            entry = (path, path if path.endswith(b"/") or not path else path + b"/", pool)
            host = route.host.encode("ascii", "ignore")
            if not host:
                self._any.append(entry)
            else:
                (patterns if b"*" in host else self._hosts).setdefault(host, []).append(entry)
        self.pools = tuple(dict.fromkeys(found))
        self._patterns = sorted(patterns.items(), key=lambda pair: -len(pair[0]))

    def pool(self, host: bytes, target: bytes) -> Any:
        """The pool for a request to *host*, as its Host field has it, and *target*, in origin form."""
        path = target.partition(b"?")[0]
        if self._hosts or self._patterns:
            name = _without_port(host).lower()
            found = _first(self._hosts.get(name, ()), path)
            if found is not None:
                return found
            for pattern, entries in self._patterns:
                fits = name.endswith(pattern[1:]) if pattern[:1] == b"*" else name.startswith(pattern[:-1])
                if fits and (found := _first(entries, path)) is not None:
                    return found
        found = _first(self._any, path)
        return self._own if found is None else found


def _first(entries: Iterable[tuple[bytes, bytes, Any]], path: bytes) -> Any:
    for exact, below, pool in entries:
        if path == exact and exact[-1:] != b"/" or path.startswith(below):
            return pool
    return None


def _without_port(host: bytes) -> bytes:
    name, colon, port = host.rpartition(b":")
    return name if colon and port.isdigit() else host
