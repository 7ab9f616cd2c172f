"""A front, exchanges and a client's frames over a transport in memory: what the tests of http2 are driven with."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from twisted_rr.http2 import blocks
from twisted_rr.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    rst_stream,
    settings,
    window_update,
)
from twisted_rr.http2.head import Head
from twisted_rr.http2.session import Session
from twisted_rr.http2.settings import SessionSettings
from twisted_rr.http2.streams import Stream
from twisted_rr.testing.transport import StringTransport

Fields = Iterable[tuple[bytes, bytes]]

OK = blocks.response(200, [(b"content-type", b"text/plain")])
TAIL = blocks.trailers([(b"grpc-status", b"0")])
REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/a/b"),
    (b":authority", b"a.example"),
    (b"te", b"trailers"),
)
SETTINGS_ACKED = frame(SETTINGS, ACK, 0, b"")
GREETING = PREFACE + settings([]) + SETTINGS_ACKED


class Frame(NamedTuple):
    """A frame as the client reads it."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """The whole frames in *data*, and what follows them."""
    found = []
    while len(data) >= 9:
        end = 9 + int.from_bytes(data[:3], "big")
        if end > len(data):
            break
        found.append(Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found, data


def frames_of(data: bytes) -> list[Frame]:
    """All frames in *data*, which ends with a whole one."""
    found, rest = split(data)
    assert not rest, "a frame cut short"
    return found


def number(payload: bytes) -> int:
    return int.from_bytes(payload[:4], "big")


def head(stream: int, fields: Fields = REQUEST, end: bool = False, flags: int = 0) -> bytes:
    """HEADERS in one frame."""
    flags |= END_HEADERS | (END_STREAM if end else 0)
    return frame(HEADERS, flags, stream, blocks.encode(fields))


def data(stream: int, content: bytes = b"", end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, content)


def request(stream: int, content: bytes = b"", fields: Fields = REQUEST) -> bytes:
    """A whole request."""
    return head(stream, fields, not content) + (data(stream, content, True) if content else b"")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Exchange:
    """Collects a request; answers by its front's `answer` as soon as it is complete.

    :ivar calls: ``"writable"``, ``"closed"``, ``"reset <code>"`` in order.
    """

    def __init__(self, front: Front, stream: Stream, head: Head, end: bool) -> None:
        self.front = front
        self.stream = stream
        self.head = head
        self.pieces: list[bytes] = []
        self.trailing: list[tuple[bytes, bytes]] | None = None
        self.complete = end
        self.calls: list[str] = []
        if end:
            front.answer(self)

    @property
    def content(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def over(self) -> bool:
        return any(call == "closed" or call.startswith("reset") for call in self.calls)

    def data(self, data: bytes, end: bool) -> bool:
        assert not self.over and not self.complete
        assert data or end
        self.pieces.append(data)
        if end:
            self.complete = True
            self.front.answer(self)
        return self.front.consumes

    def trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        assert not self.over and not self.complete
        self.trailing = fields
        self.complete = True
        self.front.answer(self)

    def writable(self) -> None:
        assert not self.over
        self.calls.append("writable")
        self.front.writable(self)

    def closed(self) -> None:
        assert not self.over
        self.calls.append("closed")

    def reset(self, code: int) -> None:
        assert not self.over
        self.calls.append(f"reset {code}")


def echo(exchange: Exchange) -> None:
    """Answer with what was sent."""
    exchange.stream.respond(OK, exchange.content, False, TAIL)


def nothing(exchange: Exchange) -> None:
    """Leave the answer to the test."""


class Front:
    """Owns one session and plays its client.

    :ivar answer: called with each exchange whose request is complete.
    :ivar consumes: whether content is consumed at once.
    :ivar refusals: what the session reported, as (stream, code, reason).
    """

    def __init__(
        self, answer: Callable[[Exchange], Any] = echo, greet: bool = True, **overrides: Any
    ) -> None:
        self.answer = answer
        self.writable: Callable[[Exchange], Any] = nothing
        self.consumes = True
        self.exchanges: list[Exchange] = []
        self.refusals: list[tuple[int, int, str]] = []
        self.closings = 0
        self.dirty_calls = 0
        self.rest = b""  # of a frame that the client has a part of
        self.clock = Clock()
        self.transport = StringTransport()
        self.session = Session(self.transport, self, SessionSettings(**overrides), self.clock)
        self.session.start()
        if greet:
            self.flush()
            self.session.receive(GREETING)
            self.flush()
            self.transport.take()

    # -- Front's

    def begin(self, session: Session, stream: Stream, head: Head, end: bool) -> Exchange:
        assert session is getattr(self, "session", session)
        exchange = Exchange(self, stream, head, end)
        self.exchanges.append(exchange)
        return exchange

    def begin_whole(self, session: Session, stream: Stream, head: Head, content: bytes) -> Exchange:
        exchange = self.begin(session, stream, head, False)
        exchange.data(content, True)
        return exchange

    def dirty(self, session: Session) -> None:
        self.dirty_calls += 1

    def refused(self, session: Session, stream: int, code: int, reason: str) -> None:
        self.refusals.append((stream, code, reason))

    def closed(self, session: Session) -> None:
        self.closings += 1

    # -- the test's

    @property
    def last(self) -> Exchange:
        return self.exchanges[-1]

    def flush(self) -> None:
        """End turns until nobody asks for another."""
        while self.dirty_calls:
            self.dirty_calls = 0
            self.session.flush()

    def feed(self, sent: bytes, size: int = 0) -> list[Frame]:
        """Receive *sent*, in pieces of *size* (0: whole), a turn each; what the client reads then."""
        for start in range(0, len(sent), size or len(sent) or 1):
            self.session.receive(sent[start : start + (size or len(sent))])
            self.flush()
        return self.read()

    def read(self) -> list[Frame]:
        self.flush()
        found, self.rest = split(self.rest + self.transport.take())
        return found

    def sweep(self, seconds: float) -> list[Frame]:
        """Let *seconds* pass, with a sweep in each."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            self.clock.now = min(self.clock.now + 1, end)
            self.session.sweep(self.clock.now)
            self.flush()
        return self.read()


def code_of_goaway(found: list[Frame]) -> int | None:
    """The error code of the last GOAWAY, None without one."""
    codes = [number(one.payload[4:]) for one in found if one.kind == GOAWAY]
    return codes[-1] if codes else None


def resets_of(found: list[Frame]) -> list[tuple[int, int]]:
    return [(one.stream, number(one.payload)) for one in found if one.kind == RST_STREAM]


def content_of(found: list[Frame], stream: int) -> bytes:
    return b"".join(one.payload for one in found if one.kind == DATA and one.stream == stream)


def ended(found: list[Frame], stream: int) -> bool:
    return any(
        one.flags & END_STREAM and one.stream == stream for one in found if one.kind in (DATA, HEADERS)
    )


__all__ = [
    "ACK", "CONTINUATION", "DATA", "END_HEADERS", "END_STREAM", "GOAWAY", "GREETING", "HEADERS", "OK", "PING",
    "PREFACE", "REQUEST", "RST_STREAM", "SETTINGS", "SETTINGS_ACKED", "TAIL", "WINDOW_UPDATE", "Exchange", "Frame",
    "Front", "blocks", "code_of_goaway", "content_of", "data", "echo", "ended", "frame", "frames_of", "head",
    "nothing", "number", "request", "resets_of", "rst_stream", "settings", "window_update",
]  # fmt: skip
