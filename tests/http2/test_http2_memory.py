"""What connections cost in memory: idle ones, and those whose clients do all they can."""

from __future__ import annotations

import gc
import tracemalloc

import hpack
from http2_rig import (
    GREETING,
    OK,
    TAIL,
    Clock,
    Exchange,
    Front,
    echo,
    frame,
    head,
    nothing,
    request,
    window_update,
)

from twisted_rr.http2.session import Session
from twisted_rr.http2.settings import SessionSettings

#: What a grpcio client sends.
CALL = [
    (b":scheme", b"http"), (b":method", b"POST"), (b":authority", b"127.0.0.1:50051"), (b":path", b"/echo.Echo/Unary"),
    (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-python/1.60.0 grpc-c/37.0.0 (linux; chttp2)"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"), (b"x-request-id", b"0123456789abcdef0123456789abcdef"),
]  # fmt: skip
IDLE_LIMIT = 20 * 1024


class Nowhere:
    """A transport that takes everything."""

    def write(self, data: bytes) -> None: ...
    def buffered(self) -> int:
        return 0

    def close_lingering(self, seconds: float) -> None: ...
    def abortConnection(self) -> None: ...


class Owner:
    """A front of many sessions, which echoes."""

    answer = staticmethod(echo)
    consumes = True

    def begin(self, session: Session, stream: object, head: object, end: bool) -> Exchange:
        return Exchange(self, stream, head, end)  # type: ignore[arg-type]

    def begin_whole(self, session: Session, stream: object, head: object, content: bytes) -> Exchange:
        exchange = self.begin(session, stream, head, False)
        exchange.data(content, True)
        return exchange

    def dirty(self, session: Session) -> None: ...
    def refused(self, session: Session, stream: int, code: int, reason: str) -> None:
        raise AssertionError(reason)

    def closed(self, session: Session) -> None: ...


def served(settings: SessionSettings, owner: Owner, clock: Clock) -> Session:
    """A session that has answered a few calls, and is idle."""
    session = Session(Nowhere(), owner, settings, clock)  # type: ignore[arg-type]
    session.start()
    session.receive(GREETING)
    encoder = hpack.Encoder()
    for call in range(5):
        fields = [*CALL[:-1], (b"x-request-id", b"%032d" % call)]
        block = encoder.encode(fields)
        session.receive(frame(1, 4, 2 * call + 1, block) + frame(0, 1, 2 * call + 1, b"m" * 105))
        session.flush()
    session.sweep(clock.now)
    assert not session.streams
    return session


def test_a_thousand_idle_connections_take_less_than_20_kib_each() -> None:
    settings, owner, clock = SessionSettings(), Owner(), Clock()
    served(settings, owner, clock)  # what is made once
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    sessions = [served(settings, owner, clock) for _ in range(1000)]
    gc.collect()
    each = (tracemalloc.get_traced_memory()[0] - before) / len(sessions)
    tracemalloc.stop()
    print(f"an idle session: {each:.0f} bytes")
    assert each < IDLE_LIMIT


def test_a_client_that_fills_the_table_and_the_cache_takes_bounded_memory() -> None:
    settings, owner, clock = SessionSettings(), Owner(), Clock()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    session = served(settings, owner, clock)
    for call in range(5, 200):
        fields = b"".join(b"\x40\x01%c\x01%c" % (97 + (call + i) % 26, 97 + i) for i in range(26))
        block = b"\x83\x86\x84\x41\x01a" + fields
        session.receive(frame(1, 5, 2 * call + 1, block))
    for call in range(200, 300):
        block = (
            b"\x83\x86\x84\x01\x01a"
            + b"\x00\x01%c\x7f\x40%s" % (97 + call % 26, b"%0191d" % call)
            + b"\xbe" * 250
        )
        session.receive(frame(1, 5, 2 * call + 1, block))
    session.flush()
    gc.collect()
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    print(f"a session that is used as badly as can be: {used} bytes")
    assert used < 200_000


def test_a_client_that_never_reads_takes_bounded_memory() -> None:
    front = Front(answer=nothing)
    front.feed(window_update(0, 2**30) + b"".join(request(2 * i + 1) for i in range(100)))
    front.transport.hold()
    for exchange in front.exchanges:
        exchange.stream.respond(OK)
        while exchange.stream.send(b"m" * 1000):
            pass
    front.flush()
    queued = sum(exchange.stream.queued for exchange in front.exchanges) + front.transport.buffered()
    assert queued < 100 * 65536 + 262144 + 16384 + 100 * 2000


def test_a_client_that_never_stops_sending_takes_no_more_than_its_windows() -> None:
    front = Front(answer=nothing, stream_window=65535, connection_window=200000)
    front.consumes = False
    found = front.feed(b"".join(head(2 * i + 1) for i in range(10)))
    for i in range(10):
        found += front.feed(frame(0, 0, 2 * i + 1, bytes(16384)) * 3)
    assert sum(len(exchange.content) for exchange in front.exchanges) <= 200000
    assert front.transport.closing == "linger" and TAIL


def test_streams_that_are_reset_while_they_wait_leave_nothing_behind() -> None:
    front = Front(answer=lambda exchange: exchange.stream.respond(OK, b"x" * 16000, True))
    front.feed(b"".join(request(2 * i + 1) for i in range(5)))
    for i in range(5, 100):
        front.feed(request(2 * i + 1))
        front.feed(frame(3, 0, 2 * i + 1, b"\0\0\0\x08"))
    assert front.session.outbox.window == 0 and len(front.session.outbox.starved) == 1
    front.transport.hold()
    front.feed(window_update(0, 1000))
    for i in range(100, 200):
        front.feed(request(2 * i + 1) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08"))
    assert len(front.session.outbox._round) <= 1 and len(front.session.streams) == 1
