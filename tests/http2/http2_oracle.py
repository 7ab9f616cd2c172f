"""The two ends of a fuzzed connection: a client whose every well-formed frame and every rule is `h2`'s, and exchanges
that answer as they were told to. What is done with them is in `http2_machine`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

import h2.connection
import h2.events
import h2.stream
from h2.config import H2Configuration
from h2.settings import SettingCodes
from http2_rig import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    OK,
    REQUEST,
    RST_STREAM,
    TAIL,
    Frame,
    blocks,
    frame,
    frames_of,
    number,
    split,
)

from twisted_rr.http2.head import Head
from twisted_rr.http2.states import CLOSED
from twisted_rr.http2.streams import Stream

# A stream that the client has reset may still get a 1xx that was on its way (RFC 9113 5.1). Of all heads h2 takes only
# this one for the end of the connection; it is one on a closed stream, as the others are.
h2.stream._transitions.setdefault(
    (h2.stream.StreamState.CLOSED, h2.stream.StreamInputs.RECV_INFORMATIONAL_HEADERS),
    h2.stream._transitions[h2.stream.StreamState.CLOSED, h2.stream.StreamInputs.RECV_HEADERS],
)

NAMES = tuple((name.decode(), value.decode()) for name, value in REQUEST)


def pattern(stream: int, start: int, size: int) -> bytes:
    """Content that shows when some of it is lost, sent twice, or somebody else's."""
    turn = b"%d." % stream * 40
    at = start % len(turn)
    return (turn * (size // len(turn) + 2))[at : at + size]


class Library(h2.connection.H2Connection):
    """`h2`, without its belief that the first GOAWAY ends a connection."""

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[Any]]:
        return [], [h2.events.ConnectionTerminated()]


@dataclass
class Sent:
    """What the client did on a stream, and what came back."""

    size: int = 0  # bytes of content sent
    ended: bool = False
    reset: bool = False  # by the client
    muddled: bool = False  # broken on purpose: its content says nothing
    content: bytes = b""
    trailers: bool = False
    over: str = ""  # "ended" or "reset <code>" by the server


class Client:
    """Writes to `wire`, from which a test delivers; reads what the server has sent.

    :ivar wire: bytes on their way to the server.
    :ivar streams: what was done on each stream that it opened.
    :ivar spent: bytes of the connection's window that were used behind the library's back; `spent_on` of a stream's.
    :ivar goaways: the last stream that each GOAWAY named.
    """

    def __init__(self) -> None:
        self.library = Library(H2Configuration(client_side=True, header_encoding=None))
        self.library.initiate_connection()
        self.wire = bytearray()
        self.streams: dict[int, Sent] = {}
        self.next = 1
        self.spent = 0
        self.spent_on: dict[int, int] = {}
        self.goaways: list[int] = []
        self.codes: list[int] = []
        self.pongs = 0
        self.rest = b""
        self._ended: set[int] = set()
        self.collect()

    def collect(self) -> None:
        """What the library has to say goes on the wire."""
        self.wire += self.library.data_to_send()

    def number(self) -> int:
        """Of a new stream."""
        self.next += 2
        return self.next - 2

    # -- well-formed frames

    def open(self, fields: list[tuple[str, str]], end: bool, cuts: list[int], padding: int) -> int:
        """HEADERS, in as many pieces as *cuts* make."""
        stream = self.number()
        self.library.send_headers(stream, [*NAMES, *fields], end_stream=end)
        whole = frames_of(self.library.data_to_send())
        block = b"".join(one.payload for one in whole)
        self.wire += pieces(stream, block, END_STREAM if end else 0, cuts, padding)
        self.streams[stream] = Sent(ended=end)
        return stream

    def can_open(self) -> bool:
        return self.library.open_outbound_streams < self.library.remote_settings.max_concurrent_streams

    def sending(self) -> list[int]:
        """Streams whose request is not complete, as far as the client knows."""
        return [
            stream for stream, sent in self.streams.items() if not (sent.ended or sent.reset or sent.over)
        ]

    def waiting(self) -> list[int]:
        """Streams whose answer is not complete, as far as the client knows."""
        return [stream for stream, sent in self.streams.items() if not (sent.reset or sent.over)]

    def data(self, stream: int, size: int, end: bool, padding: int | None) -> None:
        """As much of *size* as the windows allow; the end only with all of it."""
        over = 0 if padding is None else padding + 1
        room = min(self.window(stream), 16384) - over
        if room < 0:
            return
        sent = self.streams[stream]
        end = end and size <= room
        content = pattern(stream, sent.size, max(0, min(size, room)))
        self.library.send_data(stream, content, end, padding)
        sent.size += len(content)
        sent.ended = end
        self.collect()

    def window(self, stream: int) -> int:
        """What may be sent, with what was used behind the library's back."""
        library = self.library
        return min(
            library.outbound_flow_control_window - self.spent,
            library.streams[stream].outbound_flow_control_window - self.spent_on.get(stream, 0)
            if stream in library.streams
            else 0,
        )

    def trailers(self, stream: int) -> None:
        self.library.send_headers(stream, [("x-sum", "1")], end_stream=True)
        self.streams[stream].ended = True
        self.collect()

    def reset(self, stream: int, code: int) -> None:
        self.library.reset_stream(stream, code)
        self.streams[stream].reset = True
        self.collect()

    def grant(self, stream: int, size: int) -> None:
        """WINDOW_UPDATE; 0 is the connection's."""
        now = (
            self.library.streams[stream].inbound_flow_control_window
            if stream
            else self.library.inbound_flow_control_window
        )
        size = min(size, 2**30 - max(now, 0))
        if size > 0:
            self.library.increment_flow_control_window(size, stream or None)
            self.collect()

    def settings(self, window: int, table: int) -> None:
        """All that a server looks at, for the library applies settings by rows."""
        self.library.update_settings(
            {
                SettingCodes.INITIAL_WINDOW_SIZE: window,
                SettingCodes.HEADER_TABLE_SIZE: table,
                SettingCodes.MAX_FRAME_SIZE: 16384 + table,
                SettingCodes.MAX_HEADER_LIST_SIZE: 8000,
            }
        )
        self.collect()

    def ping(self) -> None:
        self.library.ping(b"12345678")
        self.collect()

    def raw(self, data: bytes) -> None:
        """Behind the library's back."""
        self.wire += data

    def block(self, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Encoded with the one table that both ends share."""
        return bytes(self.library.encoder.encode(fields))

    # -- what the server says

    def read(self, data: bytes, size: int) -> list[Frame]:
        """Let the library judge *data*, in pieces of *size*; then the rules it does not know."""
        for start in range(0, len(data), size):
            for event in self.library.receive_data(data[start : start + size]):
                self._heard(event)
        self.collect()
        found, self.rest = split(self.rest + data)
        for one in found:
            self._frame(one)
        return found

    def _heard(self, event: Any) -> None:
        sent = self.streams.get(getattr(event, "stream_id", None) or 0)
        if isinstance(event, h2.events.PingAckReceived):
            self.pongs += 1
        if sent is None or sent.reset:
            return
        if isinstance(event, h2.events.DataReceived):
            sent.content += event.data
        elif isinstance(event, h2.events.TrailersReceived):
            sent.trailers = True
        elif isinstance(event, h2.events.StreamEnded):
            sent.over = "ended"
        elif isinstance(event, h2.events.StreamReset):
            sent.over = sent.over or f"reset {int(event.error_code)}"

    def _frame(self, one: Frame) -> None:
        assert len(one.payload) <= 16384
        if one.kind in (DATA, HEADERS):
            assert one.stream not in self._ended, "a frame after the end of a stream"
            if one.flags & END_STREAM:
                self._ended.add(one.stream)
        elif one.kind == RST_STREAM:
            assert one.stream % 2 and one.stream < self.next, "a reset of an idle stream"
            self._ended.add(one.stream)
        elif one.kind == GOAWAY:
            last = number(one.payload)
            assert not self.goaways or last <= self.goaways[-1], "a GOAWAY that takes a stream back"
            self.goaways.append(last)
            self.codes.append(number(one.payload[4:]))


def pieces(stream: int, block: bytes, flags: int, cuts: list[int], padding: int) -> bytes:
    """A header block cut at *cuts* (per mille), its first frame padded unless *padding* is -1."""
    places = sorted(len(block) * cut // 1000 for cut in cuts)
    parts = [block[low:high] for low, high in zip([0, *places], [*places, len(block)], strict=True)]
    first = parts[0]
    if padding >= 0:
        flags |= 0x8
        first = bytes([padding]) + first + bytes(padding)
    if len(parts) == 1:
        return frame(HEADERS, flags | END_HEADERS, stream, first)
    sent = frame(HEADERS, flags, stream, first)
    for part in parts[1:-1]:
        sent += frame(CONTINUATION, 0, stream, part)
    return sent + frame(CONTINUATION, END_HEADERS, stream, parts[-1])


@dataclass(frozen=True)
class Plan:
    """How a request is to be answered.

    *when*: at its "head", its first "data", its "end", or "later". *how*: "whole", "empty", "bare" (no content but
    trailers), "stream" (content of *size* in *steps*), "interim" first, or "reset". *consumes*: content at once.
    """

    when: str
    how: str
    size: int
    steps: int
    consumes: bool


LATER = Plan("later", "whole", 10, 1, True)


class Exchange:
    """Plays the application; checks what the contract promises it."""

    def __init__(self, stream: Stream, head: Head, plan: Plan) -> None:
        self.stream = stream
        self.head = head
        self.plan = plan
        self.content = bytearray()
        self.complete = False
        self.unconsumed = 0
        self.given = 0  # bytes of the answer
        self.answered = False
        self.whole = False  # the answer was given to its end
        self.trails = False
        self.calls: deque[str] = deque()
        self.waits = False  # for `writable`
        self.over = ""
        self.dropped = False  # by its own reset

    # -- http2.contract.Exchange

    def data(self, data: bytes, end: bool) -> bool:
        assert not self.over and not self.complete and not self.dropped
        assert data or end
        self.content += data
        self.complete = end
        self.reach("data")
        if end:
            self.reach("end")
        if not self.plan.consumes:
            self.unconsumed += len(data)
        return self.plan.consumes

    def trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        assert not self.over and not self.complete and not self.dropped
        self.complete = True
        self.reach("end")

    def writable(self) -> None:
        assert not self.over and self.waits and not self.dropped
        self.waits = False
        self.go_on()

    def closed(self) -> None:
        assert not self.over and self.whole and not self.dropped
        self.over = "closed"

    def reset(self, code: int) -> None:
        assert not self.over and not self.dropped
        self.over = f"reset {code}"

    # -- the application

    def reach(self, when: str) -> None:
        if self.plan.when == when and not self.answered and not self.dropped:
            self.begin()

    def begin(self) -> None:
        """The first step of the answer."""
        if self.answered or self.over or self.dropped:
            return
        stream, plan = self.stream, self.plan
        self.answered = True
        if plan.how == "reset":
            self.drop(plan.size % 14)
        elif plan.how == "whole":
            self.whole = self.trails = True
            content = self._next(plan.size)
            if content and plan.steps % 2:
                stream.answer(OK, content, TAIL)
            else:
                stream.respond(OK, content, trailers=TAIL)
        elif plan.how == "empty":
            self.whole = True
            stream.respond([(b":status", b"204")], end=True)
        elif plan.how == "bare":
            self.whole = self.trails = True
            stream.respond(OK, trailers=[(b"grpc-status", b"5")])
        else:
            if plan.how == "interim":
                stream.interim(blocks.response(103))
            self.waits = not stream.respond(OK)
            self.go_on()

    def drop(self, code: int) -> None:
        """Break it off. An answer that is complete cannot be, and is heard of."""
        self.dropped = self.stream.state != CLOSED
        self.stream.reset(code)

    def go_on(self) -> None:
        """Further steps of an answer that streams, as long as it flows."""
        while not (self.waits or self.whole or self.over or self.dropped):
            left = self.plan.size - self.given
            step = self.plan.size // self.plan.steps + 1
            if left > step:
                self.waits = not self.stream.send(self._next(step))
            elif self.plan.steps % 2:
                self.whole = True
                self.stream.send(self._next(left), True)
            else:
                self.whole = self.trails = True
                self.stream.send(self._next(left))
                self.stream.trailers(TAIL)

    def _next(self, size: int) -> bytes:
        self.given += size
        return pattern(self.stream.id, self.given - size, size)

    def consume(self, size: int) -> None:
        size = min(size, self.unconsumed)
        self.unconsumed -= size
        self.stream.consumed(size)
