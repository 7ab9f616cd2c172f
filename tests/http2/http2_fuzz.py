"""Streams of mutated frames, deterministic for a seed, and what a session makes of them."""

from __future__ import annotations

import random
import struct
from typing import NamedTuple

import hpack
from http2_rig import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    GREETING,
    HEADERS,
    OK,
    PING,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    TAIL,
    WINDOW_UPDATE,
    Exchange,
    Frame,
    Front,
    blocks,
    frame,
    rst_stream,
    window_update,
)

FIELD_CHOICES = (
    *REQUEST,
    (b":method", b"GET"),
    (b":path", b""),
    (b"host", b"a.example"),
    (b"content-length", b"5"),
    (b"connection", b"close"),
    (b"grpc-timeout", b"5S"),
    (b"Upper", b"x"),
    (b"cookie", b"a=b"),
    (b"x", b"v" * 3000),
)


class Writer:
    """Writes the frames of a client that mostly knows what it does."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.encoder = hpack.Encoder()
        self.number = 1
        self.used = [1]

    def fields(self) -> list[tuple[bytes, bytes]]:
        fields = list(REQUEST)
        if self.chance.random() < 0.4:
            fields.append((b"x-id", b"%d" % self.chance.randrange(5)))
        if self.chance.random() < 0.15:
            fields.insert(self.chance.randrange(len(fields) + 1), self.chance.choice(FIELD_CHOICES))
        if self.chance.random() < 0.05:
            del fields[self.chance.randrange(len(fields))]
        return fields

    def block(self) -> bytes:
        block = self.encoder.encode(self.fields(), huffman=self.chance.random() < 0.7)
        return block if self.chance.random() > 0.02 else mangled(self.chance, block)

    def any_stream(self) -> int:
        if self.chance.random() < 0.05:
            return self.chance.choice((0, 2, self.number + 2, 2**31 - 1))
        return self.chance.choice(self.used[-6:])

    def head(self, flags: int = 0) -> bytes:
        stream = self.number
        self.used.append(stream)
        self.number += 2 if self.chance.random() < 0.95 else 6
        block = self.block()
        if self.chance.random() < 0.15:
            cut = self.chance.randrange(len(block) + 1)
            return frame(HEADERS, flags, stream, block[:cut]) + frame(
                CONTINUATION, END_HEADERS, stream, block[cut:]
            )
        if self.chance.random() < 0.1:
            return frame(
                HEADERS,
                flags | END_HEADERS | 0x28,
                stream,
                b"\x02" + struct.pack(">IB", 0, 9) + block + b"\0\0",
            )
        return frame(HEADERS, flags | END_HEADERS, stream, block)

    def data(self) -> bytes:
        content = b"d" * self.chance.choice((0, 1, 5, 100, 5000))
        flags = END_STREAM if self.chance.random() < 0.5 else 0
        if self.chance.random() < 0.1:
            return frame(DATA, flags | 8, self.any_stream(), b"\x03" + content + b"\0\0\0")
        return frame(DATA, flags, self.any_stream(), content)

    def control(self) -> bytes:
        which = self.chance.randrange(8)
        if which == 0:
            return window_update(
                self.chance.choice((0, self.any_stream())), self.chance.choice((0, 1, 5000, 2**31 - 1))
            )
        if which == 1:
            return rst_stream(self.any_stream(), self.chance.randrange(15))
        if which == 2:
            value = self.chance.choice((0, 1, 100, 4096, 65535, 16384, 2**31))
            return frame(SETTINGS, 0, 0, struct.pack(">HI", self.chance.randrange(1, 8), value))
        if which == 3:
            return frame(PING, self.chance.randrange(2), 0, b"pingpong")
        if which == 4:
            return frame(2, 0, self.any_stream(), struct.pack(">IB", self.any_stream(), 1))
        if which == 5:
            return frame(
                HEADERS, END_HEADERS | END_STREAM, self.any_stream(), self.encoder.encode([(b"t", b"r")])
            )
        if which == 6 and self.chance.random() < 0.1:
            return frame(GOAWAY, 0, 0, bytes(8))
        return frame(
            self.chance.randrange(256),
            self.chance.randrange(256),
            self.any_stream(),
            b"?" * self.chance.randrange(12),
        )

    def frame(self) -> bytes:
        which = self.chance.random()
        if which < 0.35:
            made = self.head(END_STREAM if self.chance.random() < 0.5 else 0)
        elif which < 0.7:
            made = self.data()
        elif which < 0.8:
            made = window_update(self.chance.choice((0, self.used[-1])), 3000)
        else:
            made = self.control()
        return made if self.chance.random() > 0.01 else mangled(self.chance, made)


def mangled(chance: random.Random, made: bytes) -> bytes:
    """Some octets changed, added or lost."""
    octets = bytearray(made)
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(octets) + 1)
        which = chance.randrange(3)
        if which == 0 and place < len(octets):
            octets[place] = chance.randrange(256)
        elif which == 1:
            octets.insert(place, chance.randrange(256))
        else:
            del octets[place : place + 1]
    return bytes(octets)


def stream_of(seed: int) -> bytes:
    """What a client sends after its preface."""
    writer = Writer(seed)
    return b"".join(writer.frame() for _ in range(writer.chance.randrange(1, 60)))


class Outcome(NamedTuple):
    """What came of a stream: events by exchange, the server's frames but for window updates, how it closed, whether the
    client said GOAWAY."""

    events: list[tuple[object, ...]]
    refusals: list[tuple[int, int, str]]
    frames: list[Frame]
    closing: str
    left: bool

    def without_unbegun(self, other: Outcome) -> Outcome:
        """Without the requests that *other* has not, because it got them with what took them back; by streams.

        Such a one is not complete, and heard nothing but its reset.
        """
        begun = {event[0] for event in other.events}
        events = [
            event
            for event in self.events
            if event[0] in begun or event[4] or not str(event[6]).startswith("('reset")
        ]
        return self._replace(events=sorted(events, key=lambda event: int(str(event[0]))))


def answer(exchange: Exchange) -> None:
    """One of several ways to answer, by the stream's number."""
    stream = exchange.stream
    way = stream.id // 2 % 5
    if way == 0:
        stream.respond(OK, exchange.content, False, TAIL)
    elif way == 1:
        stream.respond([(b":status", b"200")], b"", True)
    elif way == 2:
        stream.interim(blocks.response(103))
        stream.respond(OK)
        stream.send(b"s" * 3000)
        stream.trailers([(b"a", b"b")])
    elif way == 3:
        stream.reset(2)


def run(sent: bytes, sizes: list[int] | None = None, flushing: bool = False) -> Outcome:
    """Give *sent* to a session, cut into pieces of *sizes* in turn, or whole. Checks what must hold in any case.

    With *flushing* each piece has a turn of its own, else all are one: then only what is received decides.
    """
    front = Front(
        answer=answer, greet=False, max_header_list=8000, max_glitches=100, max_resets=40, max_write=32768
    )
    found = front.feed(GREETING)
    place = turn = 0
    while place < len(sent):
        size = sizes[turn % len(sizes)] if sizes else len(sent)
        front.session.receive(sent[place : place + size])
        place += size
        turn += 1
        if flushing:
            front.flush()
    found += front.read()
    assert not front.rest, "a frame cut short"
    check(front, found)
    closing = front.transport.closing
    front.session.connection_lost()
    assert front.closings == 1 and all(
        exchange.over or exchange.stream.state == 3 for exchange in front.exchanges
    ), "an exchange was forgotten"
    replies = [one for one in found if one.kind != WINDOW_UPDATE]
    return Outcome(events_of(front), front.refusals, replies, closing, front.session.intake.is_leaving)


def events_of(front: Front) -> list[tuple[object, ...]]:
    return [
        (
            e.stream.id,
            e.head.path,
            tuple(e.head.fields),
            e.content,
            e.complete,
            tuple(e.trailing or ()),
            tuple(e.calls),
        )
        for e in front.exchanges
    ]


def check(front: Front, found: list[Frame]) -> None:
    """A connection that ends says so last; nothing is kept of streams that are over; answers are well formed."""
    session = front.session
    if session.is_closing:
        assert found[-1].kind == GOAWAY and front.transport.closing == "linger"
        assert not session.streams
    ended: set[int] = set()
    for one in found:
        if one.kind in (DATA, HEADERS):
            assert one.stream not in ended, "a frame after the end of a stream"
        if one.kind == RST_STREAM or (one.kind in (DATA, HEADERS) and one.flags & END_STREAM):
            ended.add(one.stream)
    for stream in session.streams.values():
        assert stream.state in (0, 1) and stream.window <= session.stream_window
    assert session.outbox.size <= 65536 and len(session.streams) <= session.settings.max_streams
