"""A session between a client and an application that do anything at any moment, and what must hold after each step.

The client's frames are `h2`'s, or broken on purpose; for each of those it is written down what the server may say to it
(`Blame`). Whatever the server says without such a cause is a failure.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from http2_oracle import LATER, Client, Exchange, Plan, pattern
from http2_rig import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Clock,
    frame,
    head,
    rst_stream,
    window_update,
)
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from twisted_rr.http2.codes import (
    CANCEL,
    COMPRESSION_ERROR,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    NO_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
)
from twisted_rr.http2.goaway import LEAVING, STAYING
from twisted_rr.http2.head import Head
from twisted_rr.http2.session import Session
from twisted_rr.http2.settings import SessionSettings
from twisted_rr.http2.streams import Stream
from twisted_rr.testing.transport import StringTransport

WINDOW = 70000
CONNECTION = 100000
CHUNK = 70000  # at most so much is received at a time
WRITE = 20000
MUCH = 150000
QUEUED = 8000

SIZES = st.sampled_from((0, 1, 5, 100, 4000, 16384, 40000, 120000))
PICK = st.integers(0, 100)
PLANS = st.builds(
    Plan,
    st.sampled_from(("head", "data", "end", "end", "later")),
    st.sampled_from(("whole", "whole", "stream", "stream", "interim", "empty", "bare", "reset")),
    SIZES,
    st.integers(1, 9),
    st.booleans(),
)
PADDING = st.sampled_from((None, None, None, 0, 1, 200))
CUTS = st.lists(st.integers(0, 1000), max_size=3)
#: What the server may say of a client that is slow, when time has passed.
LATE = {
    "the client takes nothing",
    "the client asks for answers and does not read them",
    "SETTINGS were not acknowledged in time",
    "a header block did not come in time",
    "the preface did not come in time",
}


@dataclass
class Blame:
    """Something broken that was sent: which *codes* it may cost the *stream* (0: the connection), or *fatal* codes the
    connection in its place; *must*: one of them has to come."""

    stream: int
    codes: tuple[int, ...]
    fatal: tuple[int, ...] = ()
    must: bool = False


class Server:
    """The session with what is above and below it."""

    def __init__(self) -> None:
        self.exchanges: dict[int, Exchange] = {}
        self.plans: dict[int, Plan] = {}
        self.refusals: list[tuple[int, int, str]] = []
        self.closings = 0
        self.dirt = 0
        self.clock = Clock()
        self.transport = StringTransport()
        settings = SessionSettings(
            max_streams=5, stream_window=WINDOW, connection_window=CONNECTION, max_header_list=4000,
            max_write=WRITE, max_queued=QUEUED, max_unread=30000, max_glitches=300, max_resets=200,
        )  # fmt: skip
        self.session = Session(self.transport, self, settings, self.clock)
        self.session.start()

    def begin(self, session: Session, stream: Stream, head: Head, end: bool) -> Exchange:
        assert stream.id not in self.exchanges
        exchange = self.exchanges[stream.id] = Exchange(stream, head, self.plans.get(stream.id, LATER))
        exchange.complete = end
        exchange.reach("head")
        if end:
            exchange.reach("end")
        return exchange

    def begin_whole(self, session: Session, stream: Stream, head: Head, content: bytes) -> Exchange:
        exchange = self.begin(session, stream, head, False)
        if not exchange.over and not exchange.dropped:
            exchange.data(content, True)
            exchange.unconsumed = 0
        return exchange

    def dirty(self, session: Session) -> None:
        self.dirt += 1
        assert self.dirt == 1, "asked twice for one flush"

    def refused(self, session: Session, stream: int, code: int, reason: str) -> None:
        self.refusals.append((stream, code, reason))

    def closed(self, session: Session) -> None:
        self.closings += 1

    def turn(self) -> None:
        """The turn ends."""
        count = 0
        while self.dirt:
            self.dirt = 0
            self.session.flush()
            count += 1
            assert count < 10000, "flushes without end"

    def open(self) -> list[Exchange]:
        return [one for one in self.exchanges.values() if not one.over and not one.dropped]


class Http2(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.server = Server()
        self.client = Client()
        self.session = self.server.session
        self.blames: list[Blame] = []
        self.seen = 0  # refusals that were judged
        self.late = False  # time has passed, or the client does not read
        self.left = False  # the client said that it will open no more
        self.ended = False  # by the client, or by the server itself
        self.pings = 0

    # ------------------------------------------------------------------------- between the two ends

    @initialize(cut=st.integers(1, 40))
    def greet(self, cut: int) -> None:
        # The library takes a reset only after a first request.
        self.client.data(self.client.open([], False, [], -1), 5, True, None)
        self.deliver([cut], True)
        self.read(1000)
        self.deliver([CHUNK], True)

    @rule(
        sizes=st.lists(st.sampled_from((1, 3, 9, 10, 50, 1000, 20000, CHUNK)), min_size=1, max_size=6),
        more=st.booleans(),
    )
    def deliver(self, sizes: list[int], more: bool) -> None:
        """Some pieces of the wire in one turn; with *more* all that is left, in the last size."""
        wire = self.client.wire
        while wire and sizes:
            size = sizes[0]
            if len(sizes) > 1 or not more:
                sizes = sizes[1:]
            piece = bytes(wire[:size])
            del wire[:size]
            self.session.receive(piece)
        self.server.turn()

    @rule(size=st.sampled_from((1, 7, 100, 70000)))
    def read(self, size: int) -> None:
        data = self.server.transport.take()
        # Byte by byte takes the library long.
        self.client.read(data, size if len(data) < 2000 else 70000)

    @rule(room=st.sampled_from((0, 0, 1, 100, 20000)))
    def hold(self, room: int) -> None:
        """The client's kernel takes no more."""
        self.server.transport.hold(room)
        self.late = True

    @rule(room=st.sampled_from((None, None, 1, 5000)))
    def release(self, room: int | None) -> None:
        self.server.transport.release(room)
        self.server.turn()

    def settle(self) -> None:
        """Everything sent is received, both ways."""
        while True:
            self.release(None)
            self.deliver([CHUNK], True)
            self.read(70000)
            if not self.client.wire:
                break

    # ------------------------------------------------------------------------------------ the client

    @rule(plan=PLANS, cuts=CUTS, padding=PADDING, end=st.booleans(), many=st.sampled_from((0, 0, 50, 3000)))
    def open(self, plan: Plan, cuts: list[int], padding: int | None, end: bool, many: int) -> None:
        if self.client.can_open():
            self.server.plans[self.client.next] = plan
            fields = [("x-many", "v" * many)] if many else []
            self.client.open(fields, end, cuts, -1 if padding is None else padding)

    @rule(plan=PLANS, size=SIZES, count=st.integers(1, 4))
    def ask(self, plan: Plan, size: int, count: int) -> None:
        """Whole requests, as most are."""
        for _ in range(count):
            if self.client.can_open():
                self.server.plans[self.client.next] = plan
                self.client.data(self.client.open([], False, [], -1), size, True, None)

    @rule(pick=PICK, size=SIZES, end=st.booleans(), padding=PADDING)
    def send(self, pick: int, size: int, end: bool, padding: int | None) -> None:
        streams = self.client.sending()
        if streams:
            self.client.data(streams[pick % len(streams)], size, end, padding)

    @rule(pick=PICK)
    def trail(self, pick: int) -> None:
        streams = self.client.sending()
        if streams:
            self.client.trailers(streams[pick % len(streams)])

    @rule(pick=PICK, code=st.integers(0, 13))
    def cancel(self, pick: int, code: int) -> None:
        streams = self.client.waiting()
        if streams:
            self.client.reset(streams[pick % len(streams)], code)

    @rule(pick=PICK, size=st.sampled_from((1, 100, 16384, 65535, 10**6, 2**30)), all_=st.booleans())
    def grant(self, pick: int, size: int, all_: bool) -> None:
        streams = self.client.waiting()
        if all_ or not streams:
            self.client.grant(0, size)
        else:
            self.client.grant(streams[pick % len(streams)], size)

    @rule(
        window=st.sampled_from((0, 1, 100, 16384, 65535, 10**6)), table=st.sampled_from((0, 100, 4096, 8000))
    )
    def change(self, window: int, table: int) -> None:
        self.client.settings(window, table)

    @rule()
    def ping(self) -> None:
        self.client.ping()
        self.pings += 1

    @rule(pick=PICK, weight=st.integers(0, 255), on=st.integers(0, 2**31 - 1))
    def prioritise(self, pick: int, weight: int, on: int) -> None:
        stream = self._any(pick)
        if on != stream:
            self.client.raw(frame(2, 0, stream, struct.pack(">IB", on, weight)))

    @rule(
        kind=st.integers(10, 255), flags=st.integers(0, 255), pick=PICK, size=st.sampled_from((0, 1, 16384))
    )
    def say_unknown(self, kind: int, flags: int, pick: int, size: int) -> None:
        self.client.raw(frame(kind, flags, self._any(pick), bytes(size)))

    @rule(pick=PICK)
    def say_late(self, pick: int) -> None:
        """What may come for a stream that is over by then, and acknowledgements of nothing."""
        self.client.raw(frame(PING, ACK, 0, b"87654321") + frame(SETTINGS, ACK, 0, b""))
        over = [stream for stream, sent in self.client.streams.items() if sent.over or sent.reset]
        if over:
            stream = over[pick % len(over)]
            self.client.raw(window_update(stream, 7) + rst_stream(stream, CANCEL))

    @precondition(lambda self: len(self.client.streams) > 2)
    @rule(last=PICK)
    def leave(self, last: int) -> None:
        """The client will open no more."""
        self.client.raw(frame(GOAWAY, 0, 0, struct.pack(">II", last, 0)))
        self.left = True

    def _any(self, pick: int) -> int:
        """A stream of any state."""
        streams = list(self.client.streams)
        return streams[pick % len(streams)] if streams else self.client.next

    # ------------------------------------------------------------------------------- what is broken

    def _blame(self, stream: int, *codes: int, fatal: tuple[int, ...] = (), must: bool = False) -> None:
        self.blames.append(Blame(stream, codes, fatal, must))

    @rule(which=st.integers(0, 6))
    def malformed(self, which: int) -> None:
        """A request that cannot be one."""
        method, scheme, path, authority, te = REQUEST
        fields = (
            [scheme, path, authority], [*REQUEST, method], [method, scheme, (b":path", b""), authority],
            [*REQUEST, (b"connection", b"close")], [*REQUEST, (b"x", b"a\nb")], [te, *REQUEST],
            [*REQUEST, (b"content-length", b"7")],
        )[which]  # fmt: skip
        stream = self.client.number()
        self.client.raw(frame(HEADERS, END_HEADERS | END_STREAM, stream, self.client.block(fields)))
        self._blame(stream, PROTOCOL_ERROR, REFUSED_STREAM, must=True)

    @rule(pick=PICK, which=st.integers(0, 6))
    def misuse(self, pick: int, which: int) -> None:
        """A fault of one stream, in whatever state it is by then."""
        if not self.client.streams:
            return
        stream = self._any(pick)
        sent = self.client.streams[stream]
        raw = self.client.raw
        if which == 0:
            raw(window_update(stream, 0))
            self._blame(stream, PROTOCOL_ERROR)
        elif which == 1:
            raw(window_update(stream, 2**31 - 1))
            self._blame(stream, FLOW_CONTROL_ERROR)
        elif which == 2:
            raw(frame(2, 0, stream, struct.pack(">IB", stream, 1)))
            self._blame(stream, PROTOCOL_ERROR)
        elif which == 3:
            raw(frame(2, 0, stream, b"1234"))
            self._blame(stream, FRAME_SIZE_ERROR, fatal=(FRAME_SIZE_ERROR,), must=True)
        elif which == 4 and (sent.ended or sent.reset):
            self._behind(stream, 1)
            self._blame(stream, STREAM_CLOSED)
        elif which == 5:
            raw(frame(HEADERS, END_HEADERS, stream, self.client.block([(b"x", b"y")])))
            self._blame(stream, PROTOCOL_ERROR, STREAM_CLOSED, fatal=(STREAM_CLOSED,))
        elif which == 6 and sent.size == 0 and not (sent.ended or sent.reset):
            raw(frame(HEADERS, END_HEADERS | END_STREAM, stream, self.client.block([(b":path", b"/")])))
            self._blame(stream, PROTOCOL_ERROR, STREAM_CLOSED, fatal=(STREAM_CLOSED,))
        sent.muddled = True

    def _behind(self, stream: int, size: int) -> None:
        """DATA of which the library knows nothing; not more than the connection's window."""
        client = self.client
        sent = client.streams[stream]
        client.raw(frame(DATA, 0, stream, pattern(stream, sent.size, size)))
        client.spent += size
        client.spent_on[stream] = client.spent_on.get(stream, 0) + size
        if client.library.outbound_flow_control_window < client.spent:
            self._blame(0, FLOW_CONTROL_ERROR)

    @rule(pick=PICK)
    def overdo(self, pick: int) -> None:
        """More than the window of a stream, or of the connection."""
        streams = self.client.sending()
        if streams:
            stream = streams[pick % len(streams)]
            self.client.streams[stream].muddled = True
            for _ in range(8):
                self._behind(stream, 16384)
            self._blame(stream, FLOW_CONTROL_ERROR, STREAM_CLOSED)

    @precondition(lambda self: len(self.client.streams) > 3)
    @rule(which=st.integers(0, 16))
    def break_(self, which: int) -> None:
        """A fault of the connection."""
        new = self.client.next + 20
        block = self.client.block(list(REQUEST)) if which in (6, 7, 8) else b""
        data, code = (
            (frame(DATA, 0, new, b"x"), PROTOCOL_ERROR),
            (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
            (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", FRAME_SIZE_ERROR),
            (frame(SETTINGS, 0, 0, b"12345"), FRAME_SIZE_ERROR),
            (frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31)), FLOW_CONTROL_ERROR),
            (frame(SETTINGS, ACK, 0, b"123456"), FRAME_SIZE_ERROR),
            (frame(HEADERS, END_HEADERS, 2, block), PROTOCOL_ERROR),
            (frame(HEADERS, END_HEADERS | 8, new, b"\xff" + block), PROTOCOL_ERROR),
            (frame(HEADERS, 0, new, block) + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
            (frame(HEADERS, END_HEADERS, new, b"\xff\xff\xff\xff\xff\xff"), COMPRESSION_ERROR),
            (frame(CONTINUATION, END_HEADERS, 1, b""), PROTOCOL_ERROR),
            (frame(5, END_HEADERS, 1, b"\0\0\0\2"), PROTOCOL_ERROR),
            (window_update(0, 0), PROTOCOL_ERROR),
            (window_update(0, 2**31 - 1) + window_update(0, 2**31 - 1), FLOW_CONTROL_ERROR),
            (frame(WINDOW_UPDATE, 0, 0, b"1"), FRAME_SIZE_ERROR),
            (rst_stream(new, CANCEL), PROTOCOL_ERROR),
            (frame(RST_STREAM, 0, 1, b"1"), FRAME_SIZE_ERROR),
        )[which]
        self.client.raw(data)
        self._blame(0, code, must=True)

    @precondition(lambda self: len(self.client.streams) > 3)
    @rule(which=st.integers(0, 3))
    def flood(self, which: int) -> None:
        """Much of what brings nothing."""
        made = (
            frame(PING, 0, 0, b"12345678") * 400,
            frame(SETTINGS, 0, 0, b"") * 400,
            frame(0x77, 0, 0, b"") * 400,
            b"".join(
                head(self.client.number(), end=True) + rst_stream(self.client.next - 2, CANCEL)
                for _ in range(300)
            ),
        )[which]
        self.client.raw(made)
        self.pings += 400
        self._blame(0, ENHANCE_YOUR_CALM, must=True)
        for stream in range(self.client.next - 600, self.client.next, 2):
            if which == 3 and stream not in self.client.streams:
                self._blame(stream, REFUSED_STREAM)

    @precondition(lambda self: len(self.client.streams) > 3)
    @rule(noise=st.binary(max_size=40))
    def noise(self, noise: bytes) -> None:
        """Anything: from here on only the server's own rules can be judged."""
        self.client.raw(noise)
        self.settle()
        self.teardown_checks(strict=False)
        self.restart()

    def restart(self) -> None:
        self.__init__()  # type: ignore[misc]
        self.greet(CHUNK)

    # ------------------------------------------------------------------------------------ the server

    def _exchange(self, pick: int) -> Exchange | None:
        exchanges = self.server.open()
        return exchanges[pick % len(exchanges)] if exchanges else None

    @rule(pick=PICK)
    def answer(self, pick: int) -> None:
        exchange = self._exchange(pick)
        if exchange is not None:
            exchange.begin()
            self.server.turn()

    @rule(count=st.integers(2, 5))
    def answer_all(self, count: int) -> None:
        for exchange in self.server.open()[:count]:
            exchange.begin()
        self.server.turn()

    @rule(pick=PICK, size=st.sampled_from((1, 1000, 10**6)))
    def consume(self, pick: int, size: int) -> None:
        exchange = self._exchange(pick)
        if exchange is not None:
            exchange.consume(size)
            self.server.turn()

    @rule(pick=PICK, code=st.integers(0, 13))
    def give_up(self, pick: int, code: int) -> None:
        exchange = self._exchange(pick)
        if exchange is not None:
            exchange.drop(code)
            self.server.turn()

    @rule()
    def drain(self) -> None:
        self.session.drain()
        self.server.turn()

    @rule(seconds=st.sampled_from((0.1, 1.0, 5.0)))
    def sweep(self, seconds: float) -> None:
        self.late = True
        self.server.clock.now += seconds
        self.session.sweep(self.server.clock.now)
        self.server.turn()

    @precondition(lambda self: len(self.client.streams) > 4)
    @rule(code=st.sampled_from((0, 2)))
    def hurry(self, code: int) -> None:
        """The deadline of a stop."""
        self.session.close(code, "over")
        self.ended = True
        self.server.turn()

    @precondition(lambda self: len(self.client.streams) > 4)
    @rule(lost=st.booleans())
    def vanish(self, lost: bool) -> None:
        self.ended = True
        if lost:
            self.teardown_checks(strict=False)
            self.restart()
        else:
            self.session.eof_received()
            self.server.turn()

    # ------------------------------------------------------------------------------ what must hold

    @invariant()
    def nothing_is_said_without_a_cause(self) -> None:
        refusals = self.server.refusals
        for stream, code, reason in refusals[self.seen :]:
            assert self._is_due(stream, code, reason), (stream, code, reason)
        self.seen = len(refusals)

    def _is_due(self, stream: int, code: int, reason: str) -> bool:
        if self.late and reason in LATE:
            return True
        if code == REFUSED_STREAM and self.session.departure.state == LEAVING:
            assert not stream or stream not in self.server.exchanges
            return True
        for blame in self.blames:
            if (blame.stream == stream and code in blame.codes) or (not stream and code in blame.fatal):
                blame.must = False
                return True
        return False

    @invariant()
    def memory_is_bounded(self) -> None:
        session = self.session
        intake, outbox = session.intake, session.outbox
        assert len(session.streams) <= 5
        assert outbox.size <= 30000 + WRITE + 2 * 16384 + CHUNK
        assert len(intake._buffer) <= 16384 + 9 + CHUNK
        assert self.server.transport.buffered() <= 30000 + WRITE + 2 * 16384 + CHUNK
        for stream in session.streams.values():
            exchange = self.server.exchanges[stream.id]
            assert stream.queued <= exchange.given
            if exchange.plan.how in ("stream", "interim"):
                assert stream.queued <= QUEUED + exchange.plan.size // exchange.plan.steps + 1
            assert stream.window + stream.held + stream.consumed_bytes <= WINDOW
            assert stream.send_window <= 2**31 - 1
            if not stream.full and stream.waits == 0 and stream.queue:
                raise AssertionError("output that waits for nothing")
        if not session.is_closing:
            held = sum(stream.held for stream in session.streams.values())
            assert intake._window + intake._consumed + held == CONNECTION
            # A client never waits for what could be granted.
            assert not intake._consumed >= intake._window > 0 or intake._consumed == 0

    @invariant()
    def content_is_whole_and_in_order(self) -> None:
        for number, exchange in self.server.exchanges.items():
            sent = self.client.streams.get(number)
            if sent is None:
                continue
            if not sent.muddled:
                assert exchange.content == pattern(number, 0, len(exchange.content))
                assert len(exchange.content) <= sent.size
                if exchange.complete:
                    assert sent.ended and len(exchange.content) == sent.size
            size = len(sent.content)
            assert size <= exchange.given and sent.content == pattern(number, 0, size)
            if sent.over == "ended":
                assert exchange.whole and size == exchange.given and sent.trailers == exchange.trails

    @invariant()
    def a_reset_has_a_cause(self) -> None:
        refused = {stream for stream, _, _ in self.server.refusals}
        for number, sent in self.client.streams.items():
            if sent.over.startswith("reset"):
                exchange = self.server.exchanges.get(number)
                assert number in refused or (exchange is not None and exchange.dropped), (number, sent.over)

    @invariant()
    def windows_agree(self) -> None:
        """When nothing is on its way, both ends count the same."""
        session, client, server = self.session, self.client, self.server
        library = client.library
        is_quiet = not (
            client.wire or session.is_closing or session.outbox.pieces or session.intake._buffer
        ) and not (server.transport.value() or server.transport.buffered() or session.intake.partial)
        if not is_quiet or session.intake.stage < 2:
            return
        assert library.inbound_flow_control_window == session.outbox.window
        assert library.outbound_flow_control_window - client.spent == session.intake._window
        for number, stream in session.streams.items():
            ours = library.streams.get(number)
            if ours is None or client.streams[number].muddled:
                continue
            assert ours.inbound_flow_control_window == stream.send_window
            if stream.state == 0:
                behind = client.spent_on.get(number, 0)
                assert ours.outbound_flow_control_window - behind == stream.window

    def teardown(self) -> None:
        self.finish()
        self.teardown_checks(strict=not self.ended)

    def finish(self) -> None:
        """Both ends do what is left to do; every stream has to end by it."""
        for count in range(200):
            self.settle()
            for exchange in self.server.open():
                exchange.consume(10**9)
                if exchange.complete or count > 100:
                    exchange.begin()
            if count == 100 and not self.session.is_closing:
                assert all(self.client.streams[one].muddled for one in self.client.sending()), (
                    "a client waits for room"
                )
            self.server.turn()
            for stream in self.client.sending():
                sent = self.client.streams[stream]
                if not sent.muddled:
                    # More than any window: whoever consumes has to give it back.
                    self.client.data(stream, MUCH - sent.size, sent.size >= MUCH, None)
            for stream in self.client.waiting():
                if stream in self.client.library.streams:
                    self.client.grant(stream, 2**29)
            self.client.grant(0, 2**29)
            if not self.client.wire and not self.session.streams:
                break
        self.settle()

    def teardown_checks(self, strict: bool) -> None:
        session, server, client = self.session, self.server, self.client
        if strict:
            self.nothing_is_said_without_a_cause()
            self.content_is_whole_and_in_order()
            self.a_reset_has_a_cause()
            if not session.is_closing:
                self.windows_agree()
                assert client.pongs == self.pings
                assert not [blame for blame in self.blames if blame.must], "something broken went unnoticed"
                assert not any(
                    sent.muddled is False and stream in session.streams
                    for stream, sent in client.streams.items()
                )
            self._judge_the_end()
        server.transport.release(None)
        session.connection_lost()
        server.turn()
        assert server.closings == 1 and not session.streams
        assert all(one.over or one.dropped for one in server.exchanges.values()), "an exchange was forgotten"

    def _judge_the_end(self) -> None:
        session, client = self.session, self.client
        fatal = [(code, reason) for stream, code, reason in self.server.refusals if not stream]
        if session.departure.state == STAYING and not self.left and not fatal:
            assert not session.is_closing and not client.goaways
        if fatal and self.server.transport.closing == "linger":
            assert client.codes and client.codes[-1] == fatal[0][0]
        elif session.is_closing and not fatal:
            assert client.codes and client.codes[-1] == NO_ERROR
        if session.departure.state == LEAVING:
            # What the last GOAWAY names was served; what is above it was not begun.
            last = client.goaways[-1]
            assert all(stream <= last for stream in self.server.exchanges)
