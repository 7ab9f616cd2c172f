"""Flow control against a model: nothing exceeds a window, nothing waits without a waker.

The wakers of output: the next flush (TURN), WINDOW_UPDATE on the stream or SETTINGS (WINDOW), WINDOW_UPDATE on the
connection (CONNECTION_WINDOW), the transport's flush (all of it). Of an exchange told to wait: `writable`. Of a client
whose window is used up: `consumed`. After each step of a model, whatever waits must be waiting for a thing that is
still to come.
"""

from __future__ import annotations

import random

import pytest
from http2_rig import (
    DATA,
    OK,
    TAIL,
    WINDOW_UPDATE,
    Exchange,
    Front,
    content_of,
    data,
    ended,
    frames_of,
    head,
    nothing,
    number,
    request,
    settings,
    window_update,
)

from twisted_rr.http2.flow import OVERFLOW, grown, is_grant_due
from twisted_rr.http2.states import CLOSED, OPEN
from twisted_rr.http2.streams import CONNECTION_WINDOW, NOTHING, TURN, WINDOW

MAX_FRAME = 16384


def test_a_window_cannot_grow_beyond_its_bound() -> None:
    assert grown(0, 2**31 - 1) == 2**31 - 1
    assert grown(1, 2**31 - 1) == OVERFLOW
    assert grown(-5, 3) == -2


def test_half_of_what_is_not_held_is_granted() -> None:
    assert not is_grant_due(51, 49) and is_grant_due(50, 50)
    assert not is_grant_due(0, 0) and is_grant_due(0, 1)


class Sender:
    """A client with windows that grants at random, and exchanges that send all they have at once."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.initial = self.chance.choice((0, 1, 10, 1000, 65535))
        count = self.chance.randrange(1, 5)
        self.streams = [2 * i + 1 for i in range(count)]
        self.size = {stream: self.chance.randrange(90000) for stream in self.streams}
        self.left = dict(self.size)
        self.window = dict.fromkeys(self.streams, self.initial)
        self.connection = 65535
        self.got = dict.fromkeys(self.streams, 0)
        self.done: set[int] = set()
        self.front = Front(answer=nothing, max_queued=20000)
        self.front.feed(settings([(4, self.initial)]) + b"".join(request(stream) for stream in self.streams))
        self.front.writable = self.produce
        for exchange in self.front.exchanges:
            exchange.stream.respond(OK)
            self.produce(exchange)

    def produce(self, exchange: Exchange) -> None:
        """Send until told to wait."""
        stream = exchange.stream
        while self.left[stream.id]:
            size = min(self.left[stream.id], self.chance.choice((1, 100, 5000, 40000)))
            self.left[stream.id] -= size
            if not stream.send(b"q" * size):
                return
        stream.trailers(TAIL)

    def read(self) -> None:
        if self.chance.random() < 0.2:
            self.front.transport.hold(self.chance.randrange(30000))
        found = self.front.read()
        self.front.transport.release()
        found += self.front.read()
        for one in found:
            if one.kind == DATA:
                self.connection -= len(one.payload)
                self.window[one.stream] -= len(one.payload)
                self.got[one.stream] += len(one.payload)
                assert self.connection >= 0 and self.window[one.stream] >= 0 and len(one.payload) <= MAX_FRAME
            if one.kind < 2 and one.flags & 1:
                assert one.stream not in self.done
                self.done.add(one.stream)

    def grant(self) -> None:
        action = self.chance.randrange(3)
        stream = self.chance.choice(self.streams)
        if action == 0:
            self.connection += 5000
            self.front.session.receive(window_update(0, 5000))
        elif action == 1:
            self.window[stream] += 3000
            self.front.session.receive(window_update(stream, 3000))
        elif self.chance.random() < 0.3:
            new = self.chance.choice((0, 100, 5000, 65535))
            for each in self.streams:
                self.window[each] += new - self.initial
            self.initial = new
            self.front.session.receive(settings([(4, new)]))

    def check(self) -> None:
        """Whatever waits, waits for something that is still to come."""
        session = self.front.session
        assert session.outbox.window == self.connection
        for stream in session.streams.values():
            assert stream.send_window == self.window[stream.id]
            assert stream.waits != TURN, "nobody takes its turn"
            if stream.waits == WINDOW:
                assert stream.send_window <= 0 and stream.queue
            elif stream.waits == CONNECTION_WINDOW:
                assert session.outbox.window <= 0 and stream.queue
            else:
                assert stream.waits == NOTHING and not stream.queue and not stream.full
                assert not self.left[stream.id], "its exchange was not woken"
            assert stream.full <= (stream.queued * 2 > session.outbox.max_queued)
            assert stream.queued <= session.outbox.max_queued + 40000


@pytest.mark.parametrize("part", range(10))
def test_answers_flow_as_windows_allow_and_never_stop(part: int) -> None:
    for seed in range(part * 20, part * 20 + 20):
        model = Sender(seed)
        for _ in range(5000):
            model.read()
            model.check()
            if len(model.done) == len(model.streams):
                break
            model.grant()
        assert model.got == model.size, seed
        assert not model.front.session.streams and not model.front.session.outbox.has_output()
        assert all(exchange.calls[-1] == "closed" for exchange in model.front.exchanges)


class Uploader:
    """A client that sends as its windows allow, and exchanges that consume at random."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.stream_window = self.chance.choice((65535, 100000, 300000))
        self.connection = self.chance.choice((65535, 150000, 500000))
        count = self.chance.randrange(1, 6)
        self.streams = [2 * i + 1 for i in range(count)]
        self.left = {stream: self.chance.randrange(1, 400000) for stream in self.streams}
        self.window = dict.fromkeys(self.streams, self.stream_window)
        self.held = dict.fromkeys(self.streams, 0)
        self.stalled: set[int] = set()
        self.front = Front(
            answer=nothing, stream_window=self.stream_window, connection_window=self.connection
        )
        self.front.consumes = False
        self.front.feed(b"".join(head(stream) for stream in self.streams))

    def read(self) -> None:
        for one in self.front.read():
            assert one.kind == WINDOW_UPDATE
            if one.stream:
                self.window[one.stream] += number(one.payload)
            else:
                self.connection += number(one.payload)

    def send(self) -> bool:
        able = [
            stream
            for stream in self.streams
            if self.left[stream] and min(self.window[stream], self.connection) > 0
        ]
        if not able:
            return False
        stream = self.chance.choice(able)
        size = min(
            self.left[stream], self.window[stream], self.connection, self.chance.choice((1, 500, MAX_FRAME))
        )
        padding = self.chance.random() < 0.1 and size < min(self.window[stream], self.connection, 16000) - 10
        self.left[stream] -= size
        frame = data(stream, b"u" * size, not self.left[stream])
        if padding:
            frame = padded(frame)
        self.window[stream] -= len(frame) - 9
        self.connection -= len(frame) - 9
        self.front.session.receive(frame)
        self.held[stream] += size
        return True

    def consume(self) -> bool:
        able = [stream for stream in self.streams if self.held[stream] and stream not in self.stalled]
        if not able:
            return False
        stream = self.chance.choice(able)
        size = self.chance.choice((1, self.held[stream], min(self.held[stream], 10000)))
        self.held[stream] -= size
        self.front.exchanges[stream // 2].stream.consumed(size)
        return True

    def check(self) -> None:
        session = self.front.session
        assert session.intake._window == self.connection
        assert session.intake._consumed < max(self.connection, 1), "a grant is due"
        for stream in session.streams.values():
            assert stream.held == self.held[stream.id]
            if stream.state == OPEN:
                assert stream.window == self.window[stream.id]
                assert stream.window + stream.consumed_bytes + stream.held == self.stream_window
                assert stream.consumed_bytes < max(stream.window, 1), "a grant is due"


def padded(frame: bytes) -> bytes:
    """The same DATA with three bytes of padding."""
    size = int.from_bytes(frame[:3], "big") + 4
    return (
        size.to_bytes(3, "big")
        + frame[3:4]
        + bytes([frame[4] | 8])
        + frame[5:9]
        + b"\x03"
        + frame[9:]
        + b"\0\0\0"
    )


@pytest.mark.parametrize("part", range(10))
def test_uploads_flow_as_they_are_consumed_and_never_stop(part: int) -> None:
    for seed in range(part * 10, part * 10 + 10):
        model = Uploader(seed)
        for _ in range(100000):
            progress = model.send() if model.chance.random() < 0.5 else model.consume()
            model.read()
            model.check()
            if not progress and not model.send() and not model.consume():
                break
            model.read()
        assert not any(model.left.values()) and not any(model.held.values()), (seed, model.__dict__)
        assert all(exchange.complete for exchange in model.front.exchanges)


def test_streams_that_are_not_consumed_leave_the_rest_of_the_window_to_others() -> None:
    front = Front(answer=nothing, stream_window=65535, connection_window=200000)
    front.consumes = False
    front.feed(head(1) + head(3) + head(5))
    for stream in (1, 3):
        front.feed(data(stream, bytes(16384)) * 3 + data(stream, bytes(16000)))
    window = 200000 - 2 * (3 * 16384 + 16000)
    for _ in range(50):
        size = min(window, 10000)
        window -= size
        window += sum(number(one.payload) for one in front.feed(data(5, bytes(size))) if one.stream == 0)
        front.exchanges[2].stream.consumed(size)
        window += sum(number(one.payload) for one in front.read() if one.stream == 0)
        assert window > 0


def test_what_a_stream_held_is_given_back_when_it_ends() -> None:
    front = Front(answer=nothing, connection_window=65535)
    front.consumes = False
    found = front.feed(head(1) + data(1, bytes(16384)) * 3)
    front.last.stream.reset(8)
    found = front.read()
    assert [number(one.payload) for one in found if one.kind == WINDOW_UPDATE and not one.stream] == [
        3 * 16384
    ]


def test_what_an_answered_stream_held_is_given_back() -> None:
    front = Front(answer=nothing, connection_window=65535)
    front.consumes = False
    front.feed(head(1) + data(1, bytes(16384)) * 2 + data(1, bytes(16384), True))
    front.last.stream.respond(OK, b"", True)
    assert [number(one.payload) for one in front.read() if one.kind == WINDOW_UPDATE] == [3 * 16384]


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 5000])
def test_a_whole_answer_waits_for_the_window_of_its_stream(size: int) -> None:
    front = Front(answer=nothing)
    front.feed(settings([(4, 100)]) + request(1))
    front.last.stream.respond(OK, b"w" * size, False, TAIL)
    found = front.read()
    assert len(content_of(found, 1)) == min(size, 100) and ended(found, 1) == (size <= 100)
    found += front.feed(window_update(1, 10000))
    assert len(content_of(found, 1)) == size and ended(found, 1)


def test_a_whole_answer_waits_for_the_window_of_the_connection() -> None:
    front = Front(answer=nothing)
    front.feed(b"".join(request(2 * i + 1) for i in range(10)))
    for exchange in front.exchanges:
        exchange.stream.respond(OK, b"w" * 10000, True)
    found = front.read()
    assert sum(len(one.payload) for one in found if one.kind == DATA) == 65535
    found += front.feed(window_update(0, 100000))
    assert all(len(content_of(found, 2 * i + 1)) == 10000 for i in range(10))


def test_a_complete_request_is_granted_no_window_of_its_own() -> None:
    front = Front(answer=nothing, stream_window=65535)
    front.consumes = False
    front.feed(head(1) + data(1, bytes(16384)) * 2 + data(1, bytes(16384), True))
    front.last.stream.consumed(3 * 16384)
    assert [one for one in front.read() if one.stream == 1] == []


def test_consuming_more_than_was_received_counts_as_what_was() -> None:
    front = Front(answer=nothing)
    front.consumes = False
    front.feed(head(1) + data(1, b"abc"))
    front.last.stream.consumed(1000)
    front.last.stream.consumed(-5)
    assert front.last.stream.held == 0 and front.last.stream.consumed_bytes == 3


def test_send_says_when_to_wait_and_writable_when_to_go_on() -> None:
    front = Front(answer=nothing, max_queued=1000)
    front.feed(settings([(4, 0)]) + request(1))
    stream = front.last.stream
    assert stream.respond(OK) and stream.send(b"x" * 1000)
    assert not stream.send(b"x") and not stream.send(b"")
    front.feed(window_update(1, 400))
    assert front.last.calls == []
    front.feed(window_update(1, 400))
    assert front.last.calls == ["writable"] and stream.send(b"y")
    front.feed(window_update(1, 10000))
    assert front.last.calls == ["writable"]


def test_an_exchange_may_do_anything_inside_writable() -> None:
    def act(exchange: Exchange) -> None:
        exchange.stream.trailers(TAIL)
        other = front.exchanges[1].stream
        if other.state != CLOSED:
            other.reset(8)

    front = Front(answer=nothing, max_queued=1000)
    front.writable = act
    front.feed(settings([(4, 0)]) + request(1) + request(3))
    for exchange in front.exchanges:
        exchange.stream.respond(OK)
        exchange.stream.send(b"x" * 5000)
    front.read()
    found = front.feed(window_update(1, 5000) + window_update(3, 5000))
    assert ended(found, 1) and len(content_of(found, 1)) == 5000 and not ended(found, 3)
    assert frames_of(b"") == []


def test_an_endless_source_gives_one_portion_a_turn() -> None:
    front = Front(answer=nothing, max_write=65536)
    front.feed(window_update(0, 2**30) + settings([(4, 2**30)]) + request(1))
    front.writable = lambda exchange: exchange.stream.send(b"z" * 100000)
    front.last.stream.respond(OK)
    front.last.stream.send(b"z" * 100000)
    for _ in range(20):
        front.dirty_calls = 0
        front.session.flush()
        assert 65536 <= len(front.transport.take()) < 65536 + 20000
        assert front.dirty_calls == 1
