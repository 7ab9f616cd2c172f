"""The section ``http`` (features.md 2.5): names, kinds and defaults of its keys.

What the values do is written where it is done. Keys of what is not served yet are known here only to be refused
in words, so that no part of a configuration is silently without effect.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from twisted_rr.config import key, kinds
from twisted_rr.config.nodes import ListNode, MapNode, Node, Scalar
from twisted_rr.config.report import Place
from twisted_rr.pool.settings import PoolSettings

from .forwarded import HEADERS, Forwarding
from .routes import OWN, RouteSettings, route_table

MEGABYTE = 1 << 20

_PROXY = "a proxy in front can do it"


class NotServed(kinds.Kind):
    """A key of RoadRunner's that does nothing here yet: refused, unless it is empty or ``compat`` takes it.

    :param without: a key of the map; unless that is true, the map asks for nothing either.
    :param instead: what may take its place.
    """

    def __init__(self, what: str, without: str = "", instead: str = "") -> None:
        self._what = what
        self._without = without
        self._instead = instead
        self.expected = f"nothing: {what} is not served yet"

    def read(self, node: Node, at: Place) -> Any:
        """Empty lists and maps ask for nothing."""
        if isinstance(node, ListNode) and not node.items or isinstance(node, MapNode) and not node.entries:
            return None
        if self._without and isinstance(node, MapNode):
            entry = node.entries.get(self._without)
            if entry is None or (isinstance(entry.node, Scalar) and entry.node.text.lower() == "false"):
                at.warn(node, f"has no effect: {self._what} is not served yet")
                return None
        return at.unserved(node, self._what, self._instead)

    def schema(self) -> dict[str, Any]:
        """Only what is empty passes."""
        return {"enum": [None, [], {}]}


def _subnet(text: str) -> str:
    Forwarding([text])
    return text


def _extension(text: str) -> str:
    if "/" in text or not text.strip("."):
        raise ValueError
    return text.lower()


@attrs.frozen(kw_only=True)
class TimeoutSettings:
    """``http.timeouts``: seconds; 0 is no limit. None of them limits a whole answer."""

    header: float = key(kinds.duration(), default=10.0, doc="for a request's head, from its first byte")
    body: float = key(kinds.duration(), default=30.0, doc="without a byte of the body we want to read")
    keepalive: float = key(kinds.duration(), default=75.0, doc="idle between two requests")
    write: float = key(kinds.duration(), default=30.0, doc="without a byte taken while an answer waits")


@attrs.frozen(kw_only=True)
class UploadSettings:
    """``http.uploads``: files of multipart forms, for one-call workers (protocol.md 4.5)."""

    dir: str = key(
        kinds.file(), default="", doc="where uploaded files lie until the answer; the system's own"
    )
    allow: tuple[str, ...] = key(
        kinds.list_of(kinds.custom("a file extension such as .png", _extension)),
        default=(),
        doc="extensions that are taken; none: all",
    )
    forbid: tuple[str, ...] = key(
        kinds.list_of(kinds.custom("a file extension such as .php", _extension)),
        default=(),
        doc="extensions that are refused, also when allowed",
    )


@attrs.frozen(kw_only=True)
class HttpSettings:
    """The HTTP front: where it listens, what it takes, and the pool that answers."""

    address: str = key(kinds.address(), required=True, doc="where to listen: host:port, :port or unix://path")
    pool: PoolSettings = key(kinds.section(PoolSettings), factory=PoolSettings, doc="the workers")
    routes: tuple[RouteSettings, ...] = key(
        route_table(), default=(), doc="requests for other pools, by host and path: the narrowest counts"
    )
    internal_error_code: int = key(
        kinds.integer(min=400, max=599),
        default=500,
        doc="status when the application fails; what the server lacks stays told apart (502, 503, 504)",
    )
    access_logs: bool = key(kinds.boolean(), default=False, doc="one line for each exchange")
    max_request_size: int = key(
        kinds.size_mb(), default=1000 * MEGABYTE, doc="the largest body; 0: the default of 1000 MB"
    )
    raw_body: bool = key(
        kinds.boolean(), default=False, doc="hand forms and uploads to one-call workers unparsed"
    )
    codec: str = key(
        kinds.choice("json", "proto"), default="json", doc="the request context of one-call workers"
    )
    uploads: UploadSettings = key(
        kinds.section(UploadSettings), factory=UploadSettings, doc="files of multipart forms"
    )
    trusted_subnets: tuple[str, ...] | None = key(
        kinds.list_of(kinds.custom("a network such as 10.0.0.0/8", _subnet)),
        default=None,
        doc="whose Forwarded and X-Forwarded-* are believed; loopback when absent, nobody when empty",
    )
    trusted_headers: tuple[str, ...] = key(
        kinds.list_of(kinds.string("a header's name", r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")),
        default=HEADERS,
        doc="which of their headers tell the client's address, in order",
    )
    half_close: bool = key(
        kinds.boolean(), default=False, doc="answer clients that shut down their sending side first"
    )
    timeouts: TimeoutSettings = key(kinds.section(TimeoutSettings), factory=TimeoutSettings, doc="time-outs")
    max_header_bytes: int = key(
        kinds.integer(min=1024, max=1 << 20), default=32768, doc="bytes of a request's header fields"
    )
    max_headers: int = key(kinds.integer(min=8, max=10000), default=100, doc="header fields of a request")
    middleware: None = key(NotServed("middleware", instead=_PROXY), doc="not served yet; empty is fine")
    headers: None = key(NotServed("the headers middleware", instead=_PROXY), doc="not served yet")
    static: None = key(NotServed("the static middleware", instead=_PROXY), doc="not served yet")
    ssl: None = key(NotServed("TLS", instead=_PROXY), doc="not served yet")
    http2: None = key(NotServed("HTTP/2", without="h2c"), doc="not served yet")
    http3: None = key(NotServed("HTTP/3"), doc="not served yet")
    fcgi: None = key(NotServed("FastCGI"), doc="not served yet")
    cache: None = key(NotServed("the HTTP cache"), doc="not served yet")
    cors: None = key(NotServed("CORS"), doc="not served yet")

    def pool_names(self) -> Iterable[tuple[str, str]]:
        """``(key path, name)`` of each pool that is asked for by name."""
        return [(f"routes[{i}].pool", route.pool) for i, route in enumerate(self.routes) if route.pool != OWN]

    def warnings(self) -> Iterable[tuple[str, str]]:
        """What works, and is most likely not meant."""
        if any(route.what == ("", "") and route.pool != OWN for route in self.routes):
            yield "routes", "a route takes everything, so the workers of http.pool get nothing"

    @property
    def max_body(self) -> int:
        """Bytes of one request's body; 0 means RoadRunner's 1000 MB there too (features.md 2.0.5)."""
        return self.max_request_size or 1000 * MEGABYTE
