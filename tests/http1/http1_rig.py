"""A front, an exchange and a session over a transport in memory: what the tests of http1 are driven with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from twisted_rr.http1.request import Request
from twisted_rr.http1.response import ResponseHead, render
from twisted_rr.http1.session import Session
from twisted_rr.http1.settings import SessionSettings
from twisted_rr.testing.transport import StringTransport

OK = render(200, [(b"content-type", b"text/plain")])


class Exchange:
    """Collects a request; answers by its front's `answer` as soon as the content is complete.

    :ivar calls: ``"pause"``, ``"resume"``, ``"sent"``, ``"lost <reason>"`` in order.
    """

    def __init__(self, front: Front, session: Session, request: Request) -> None:
        self.front = front
        self.session = session
        self.request = request
        self.pieces: list[bytes] = []
        self.complete = request.length == 0
        self.calls: list[str] = []

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def over(self) -> bool:
        return any(call == "sent" or call.startswith("lost") for call in self.calls)

    def body(self, data: bytes, more: bool) -> bool:
        assert not self.over and not self.complete
        assert data or not more
        self.pieces.append(data)
        if not more:
            self.complete = True
            self.front.answer(self)
        return self.front.takes_more

    def pause(self) -> None:
        self.calls.append("pause")

    def resume(self) -> None:
        self.calls.append("resume")

    def sent(self) -> None:
        assert not self.over
        assert self.session is self.front.session and self.front.transport.buffered() == 0
        self.calls.append("sent")

    def lost(self, reason: str) -> None:
        assert not self.over
        self.calls.append("lost " + reason)


def echo(exchange: Exchange) -> None:
    """Answer with what was asked."""
    request = exchange.request
    exchange.session.respond(
        OK, b"%b %b %d" % (request.method.encode(), request.target, len(exchange.content))
    )


def nothing(exchange: Exchange) -> None:
    """Leave the answer to the test."""


class Front:
    """Owns one session.

    :ivar answer: called with each exchange whose request is complete, for one without content inside ``begin``.
    :ivar eager: whether content is asked for at once when the client waits for 100.
    :ivar refusals: ``(status, reason)`` of the session's own answers.
    """

    def __init__(
        self, settings: SessionSettings | None = None, answer: Callable[[Exchange], None] = echo
    ) -> None:
        self.now = 1000.0
        self.draining = False
        self.takes_more = True
        self.answer = answer
        self.eager = True
        self.exchanges: list[Exchange] = []
        self.refusals: list[tuple[int, str]] = []
        self.closings = 0
        self.transport = StringTransport()
        self.session = Session(
            self.transport,
            self,
            settings or SessionSettings(),
            lambda: self.now,
            "http",
            ("192.168.1.1", 54321),
            None,
        )

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]

    def begin(self, session: Session, request: Request) -> Exchange:
        exchange = Exchange(self, session, request)
        self.exchanges.append(exchange)
        if request.expect and self.eager:
            session.expect_continue()
        if exchange.complete:
            self.answer(exchange)
        return exchange

    def refused(self, session: Session, status: int, reason: str) -> None:
        assert reason.isascii()
        self.refusals.append((status, reason))

    def closed(self, session: Session) -> None:
        self.closings += 1

    def feed(self, data: bytes, size: int = 0) -> Front:
        """Hand *data* to the session, in pieces of *size* bytes."""
        for start in range(0, len(data), size or max(1, len(data))):
            self.session.data_received(data[start : start + size] if size else data)
        return self

    def feed_pieces(self, pieces: Iterable[bytes]) -> Front:
        for piece in pieces:
            self.session.data_received(piece)
        return self

    def tick(self, seconds: float) -> None:
        """Time goes by, with a sweep each second."""
        for _ in range(int(seconds)):
            self.now += 1.0
            self.session.sweep(self.now)

    def wire(self) -> bytes:
        """All that was sent, without Date lines."""
        return re.sub(rb"date: [^\r]*GMT\r\n", b"", self.transport.value())

    def statuses(self) -> list[int]:
        return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d\d\d) ", self.wire())]

    def events(self) -> list[Any]:
        """Everything that may not depend on how the bytes came."""
        seen = [
            (
                exchange.request.method,
                exchange.request.target,
                exchange.request.version,
                exchange.request.headers,
                exchange.request.length,
                exchange.request.host,
                exchange.content,
                exchange.complete,
                exchange.request.trailers,
                exchange.calls,
            )
            for exchange in self.exchanges
        ]
        wire = re.sub(
            rb"content-length: \d+\r\nconnection: close\r\n\r\n.*", b"", self.wire(), flags=re.DOTALL
        )
        return [seen, [status for status, _ in self.refusals], self.transport.closing, wire]


def serve(data: bytes, **settings: Any) -> Front:
    """A front whose session was fed *data*."""
    return Front(SessionSettings(**settings)).feed(data)


def answered(status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> ResponseHead:
    return render(status, headers)
