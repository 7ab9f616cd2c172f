"""The h2 library as the client: what it takes for a violation is one, and what arrives is what was sent."""

from __future__ import annotations

from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import jh2.config
import jh2.connection
import jh2.events
import pytest
from http2_rig import OK, TAIL, Exchange, Front, nothing
from hypothesis import given, settings
from hypothesis import strategies as st

FIELDS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/x"),
    (":authority", "a.example"),
    ("te", "trailers"),
]
SIZES = st.sampled_from([0, 1, 100, 5000, 20000, 70000])


class Pair:
    """A client of a library and a session, joined; exchanges consume and answer when told."""

    def __init__(self, library: Any = h2, **overrides: Any) -> None:
        self.library = library
        self.front = Front(answer=nothing, greet=False, **overrides)
        self.front.consumes = False
        self.client = library.connection.H2Connection(library.config.H2Configuration(client_side=True))
        self.client.initiate_connection()
        self.asked: dict[int, bytearray] = {}
        self.unsent: dict[int, int] = {}
        self.answers: dict[int, int] = {}
        self.got: dict[int, bytearray] = {}
        self.trailers: dict[int, Any] = {}
        self.ended: set[int] = set()
        self.reset: dict[int, int] = {}
        self.gone: Any = None
        self.exchange()

    def exchange(self) -> None:
        """Let both read until nobody has anything to say."""
        while True:
            sent = self.client.data_to_send()
            if sent:
                self.front.session.receive(sent)
            self.front.flush()
            back = self.front.transport.take()
            if back:
                for event in self.client.receive_data(back):
                    self.seen(event)
            if not sent and not back:
                return

    def seen(self, event: Any) -> None:
        events = self.library.events
        stream = getattr(event, "stream_id", None)
        if isinstance(event, events.DataReceived):
            self.got.setdefault(stream, bytearray()).extend(event.data)
        elif isinstance(event, events.TrailersReceived):
            self.trailers[stream] = [(bytes(name), bytes(value)) for name, value in event.headers]
        elif isinstance(event, events.StreamEnded):
            self.ended.add(stream)
        elif isinstance(event, events.StreamReset):
            self.reset[stream] = int(event.error_code)
        elif isinstance(event, events.ConnectionTerminated):
            self.gone = event

    def of(self, stream: int) -> Exchange:
        return next(exchange for exchange in self.front.exchanges if exchange.stream.id == stream)

    # -- what may happen

    def open(self, size: int) -> None:
        stream = self.client.get_next_available_stream_id()
        self.client.send_headers(stream, FIELDS, end_stream=not size)
        self.asked[stream] = bytearray()
        if size:
            self.unsent[stream] = size
        self.exchange()

    def upload(self, pick: int) -> None:
        """Send as much of a request as the windows allow."""
        if not self.unsent:
            return
        stream = sorted(self.unsent)[pick % len(self.unsent)]
        size = min(self.client.local_flow_control_window(stream), self.unsent[stream], 16384)
        if size <= 0:
            return
        content = bytes([pick % 256]) * size
        self.unsent[stream] -= size
        self.client.send_data(stream, content, end_stream=not self.unsent[stream])
        self.asked[stream] += content
        if not self.unsent[stream]:
            del self.unsent[stream]
        self.exchange()

    def consume(self, pick: int) -> None:
        holding = [exchange for exchange in self.front.exchanges if exchange.stream.held]
        if holding:
            stream = holding[pick % len(holding)].stream
            stream.consumed(max(1, stream.held // (1 + pick % 3)))
            self.exchange()

    def answer(self, pick: int, size: int) -> None:
        """Answer a request, complete or not."""
        waiting = [e for e in self.front.exchanges if e.stream.id not in self.answers and not e.over]
        if not waiting:
            return
        exchange = waiting[pick % len(waiting)]
        stream = exchange.stream
        self.answers[stream.id] = size
        if not exchange.complete:
            self.unsent.pop(stream.id, None)
        if pick % 2:
            stream.respond(OK, b"r" * size, False, TAIL)
        else:
            stream.respond(OK)
            for start in range(0, size, 7000):
                stream.send(b"r" * min(7000, size - start))
            stream.trailers(TAIL)
        self.exchange()

    def grant(self, pick: int, size: int) -> None:
        """The client opens its windows."""
        if pick % 3 == 0:
            self.client.increment_flow_control_window(size + 1)
        elif pick % 3 == 1:
            self.client.update_settings({self.library.settings.SettingCodes.INITIAL_WINDOW_SIZE: size})
        else:
            live = [s for s in self.answers if s not in self.ended and s not in self.reset]
            if live:
                self.client.increment_flow_control_window(size + 1, live[pick % len(live)])
        self.exchange()

    def cancel(self, pick: int) -> None:
        live = [
            s for s in self.asked if s not in self.ended and s not in self.reset and s not in self.answers
        ]
        if live:
            stream = live[pick % len(live)]
            self.client.reset_stream(stream, 8)
            self.unsent.pop(stream, None)
            self.reset[stream] = 8
            self.exchange()
            assert self.of(stream).calls[-1] == "reset 8"

    def finish(self) -> None:
        """Consume, answer and grant everything; then all must be complete."""
        for _ in range(400):
            busy = False
            for stream in list(self.unsent):
                busy = True
                self.upload(sorted(self.unsent).index(stream))
            for exchange in self.front.exchanges:
                if exchange.stream.held:
                    busy = True
                    exchange.stream.consumed(exchange.stream.held)
            self.exchange()
            if not busy:
                break
        self.client.update_settings({self.library.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**20})
        self.client.increment_flow_control_window(2**24)
        self.exchange()
        while any(e.stream.id not in self.answers and not e.over for e in self.front.exchanges):
            self.answer(1, 100)

    def check(self) -> None:
        assert self.gone is None and not self.front.refusals
        for exchange in self.front.exchanges:
            stream = exchange.stream.id
            if stream not in self.answers:
                assert exchange.calls[-1] == "reset 8"
                continue
            assert len(self.got.get(stream, b"")) == self.answers[stream]
            assert self.trailers[stream] == [(b"grpc-status", b"0")]
            assert exchange.calls[-1] == "closed"
            if exchange.complete:
                assert exchange.content == bytes(self.asked[stream])
        assert not self.front.session.streams


PICK = st.integers(0, 1000)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("open"), SIZES),
        st.tuples(st.just("upload"), PICK),
        st.tuples(st.just("consume"), PICK),
        st.tuples(st.just("answer"), PICK, SIZES),
        st.tuples(st.just("grant"), PICK, SIZES),
        st.tuples(st.just("cancel"), PICK),
    ),
    max_size=40,
)


@pytest.mark.parametrize("library", [h2, jh2], ids=["h2", "jh2"])
def test_whatever_happens_the_client_sees_no_violation_and_all_arrives(library: Any) -> None:
    @given(MOVES)
    @settings(max_examples=60, deadline=None)
    def play(moves: list[tuple[Any, ...]]) -> None:
        pair = Pair(library, stream_window=65535, connection_window=100000)
        for name, *arguments in moves:
            getattr(pair, name)(*arguments)
        pair.finish()
        pair.check()

    play()
