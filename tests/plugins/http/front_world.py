"""A front without a world: fake host, pool and transport, and a session that records what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.task import Clock

from twisted_rr.http1.head import ODD, FieldName, HeaderBlock, RequestLine
from twisted_rr.http1.request import Request
from twisted_rr.http1.response import ResponseHead
from twisted_rr.plugins.http.config import HttpSettings
from twisted_rr.plugins.http.service import HttpFront
from twisted_rr.testing.host import FakeHost
from twisted_rr.testing.pool import FakeCall, FakePool
from twisted_rr.testing.port import FakePort


class FakeTransport:
    """A connection: ``out`` is what the client got, ``events`` the rest. ``stuck`` keeps the kernel from taking."""

    def __init__(self, peer: Any = None, host: Any = None) -> None:
        self.out = b""
        self.events: list[str] = []
        self.stuck = False
        self.kept = b""
        self.producer: Any = None
        self.reading = True
        self.open = True
        self.protocol: Any = None
        self._peer = IPv4Address("TCP", "203.0.113.7", 5555) if peer is None else peer
        self._host = IPv4Address("TCP", "192.0.2.1", 80) if host is None else host
        self._flush: list[Callable[[], None]] = []

    def getPeer(self) -> Any:
        return self._peer

    def getHost(self) -> Any:
        return self._host

    # -- the client's side

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def lose(self) -> None:
        if self.open:
            self.open = False
            self.protocol.connectionLost(None)

    def take(self) -> None:
        """The kernel takes everything."""
        self.stuck = False
        self.out, self.kept = self.out + self.kept, b""
        callbacks, self._flush = self._flush, []
        for callback in callbacks:
            callback()

    # -- the server's side

    def write(self, data: bytes) -> None:
        if self.stuck:
            self.kept += data
        elif self.open:
            self.out += data

    def buffered(self) -> int:
        return len(self.kept)

    def on_flush(self, callback: Callable[[], None]) -> None:
        if self.kept:
            self._flush.append(callback)
        else:
            callback()

    def close_lingering(self, seconds: float) -> None:
        self.events.append("fin")

    def loseConnection(self) -> None:
        self.events.append("close")
        self.lose()

    def abortConnection(self) -> None:
        self.events.append("abort")
        self.lose()

    def pauseProducing(self) -> None:
        self.reading = False

    def resumeProducing(self) -> None:
        self.reading = True

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.producer = None


class RecordingSession:
    """What an exchange tells its session, in ``events``: ``(word, ...)``."""

    def __init__(self, exchange_ends: bool = True) -> None:
        self.peer: Any = ("203.0.113.7", 5555)
        self.host: Any = ("192.0.2.1", 80)
        self.scheme = "http"
        self.events: list[tuple[Any, ...]] = []
        self.exchange: Any = None
        self.raises: Exception | None = None

    def words(self) -> list[str]:
        return [event[0] for event in self.events]

    def _raise(self) -> None:
        error, self.raises = self.raises, None
        if error is not None:
            raise error

    def expect_continue(self) -> None:
        self.events.append(("expect_continue",))

    def resume_body(self) -> None:
        self.events.append(("resume_body",))

    def respond(self, head: ResponseHead, body: bytes = b"", more: bool = False) -> None:
        self._raise()
        self.events.append(("respond", head.status, body, more))

    def send(self, body: bytes, more: bool) -> None:
        self.events.append(("send", body, more))

    def trailers(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._raise()
        self.events.append(("trailers", list(headers)))

    def interim(self, head: ResponseHead) -> None:
        self.events.append(("interim", head.status))

    def simple(self, status: int, body: bytes = b"", headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        self.events.append(("simple", status, body, dict(headers)))

    def cut(self) -> None:
        self.events.append(("cut",))
        if self.exchange is not None:
            self.exchange.lost("cut")


def request(
    method: str = "GET",
    target: bytes = b"/path?q=1",
    headers: Iterable[tuple[bytes, bytes]] = ((b"host", b"example.org"),),
    length: int = 0,
    version: str = "1.1",
    expect: bool = False,
) -> Request:
    block = HeaderBlock()
    block.headers = list(headers)
    block.host = dict(block.headers).get(b"host", b"")
    block.length = length
    block.odd = any(FieldName(name).kind == ODD for name, _ in block.headers)
    line = RequestLine(method, target, 1 if version == "1.1" else 0, None)
    return Request(line, block, expect)


class World:
    """A front with its doubles. *keys* are those of the section ``http``."""

    def __init__(self, mux: bool = True, **keys: Any) -> None:
        keys.setdefault("address", "127.0.0.1:0")
        self.clock = Clock()
        self.host = FakeHost(self.clock, keys.pop("settings", None), mux=mux)
        self.host.drain.arrived = lambda: None  # type: ignore[attr-defined]
        self.pool: FakePool = self.host.pool("http", None, "http")
        self.pool.debug = "pool" in keys and keys["pool"].debug
        self.ports: list[FakePort] = []
        parts = {key: keys.pop(key) for key in ("forwarding", "uploads") if key in keys}
        self.front = HttpFront(HttpSettings(**keys), self.pool, self.host, bind=self._bind, **parts)

    def _bind(self, address: str) -> Any:
        self.ports.append(FakePort(address))
        return self.ports[-1]

    @property
    def call(self) -> FakeCall:
        return self.pool.last

    def log(self, *levels: str) -> list[str]:
        return self.host.log("http").lines(*levels)

    def exchange(self, wanted: Request | None = None) -> tuple[RecordingSession, Any]:
        """An exchange that a session began."""
        session = RecordingSession()
        session.exchange = self.front.begin(session, request() if wanted is None else wanted)
        return session, session.exchange

    def start(self) -> World:
        self.front.privilegedStartService()
        self.front.startService()
        return self

    def connect(self, peer: Any = None, host: Any = None) -> FakeTransport:
        transport = FakeTransport(peer, host)
        self.ports[-1].connect(transport)
        return transport


UNIX = UNIXAddress(None)
