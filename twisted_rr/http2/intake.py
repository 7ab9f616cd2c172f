"""What a client sends: frames out of bytes, and what each does (RFC 9113 sections 4 to 8).

What a frame may do in which state is in `states`, heads in `hpack` and `head`; output, and how a connection ends, are
the session's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted_rr.http2.codes import (
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFault,
)
from twisted_rr.http2.flow import OVERFLOW, grown, is_grant_due
from twisted_rr.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    MAX_FRAME,
    MAX_ID,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    SETTINGS_ACK,
    U32,
    WINDOW_UPDATE,
    ping,
    window_update,
)
from twisted_rr.http2.goaway import LEAVING
from twisted_rr.http2.hpack import Heads
from twisted_rr.http2.limits import Allowance, PingPolicy
from twisted_rr.http2.partial import PartialBlock
from twisted_rr.http2.peer import Peer
from twisted_rr.http2.states import (
    ACCEPT,
    HALF_CLOSED,
    IDLE,
    NOT_ALLOWED,
    OPEN,
    REFUSE,
    RULES,
    STREAM_ENDED,
    Numbers,
)
from twisted_rr.http2.streams import WINDOW, Stream

if TYPE_CHECKING:
    from twisted_rr.http2.head import Head
    from twisted_rr.http2.session import Session

# What has come of the client's preface (section 3.4).
PREFACE_DUE: Final = 0
SETTINGS_DUE: Final = 1
COMPLETE: Final = 2

#: A HEADERS frame that has, of these, END_HEADERS only is nothing but a block.
_SHAPE: Final = PADDED | HAS_PRIORITY | END_HEADERS
_SELF_DEPENDENT: Final = "a stream that depends on itself"


class Intake:
    """The input of one connection.

    :ivar stage: of the client's preface.
    :ivar numbers: of its streams.
    :ivar peer: its SETTINGS.
    :ivar partial: a header block whose end has not come, None for none.
    :ivar heard: changes with everything received.
    :ivar is_acked: whether it has acknowledged our SETTINGS.
    :ivar is_leaving: whether it has sent GOAWAY.
    """

    __slots__ = (
        "heard", "is_acked", "is_leaving", "numbers", "partial", "peer", "stage",
        "_buffer", "_clock", "_consumed", "_glitches", "_heads", "_is_plain", "_known", "_pings", "_resets", "_session",
        "_settings", "_streams", "_window",
    )  # fmt: skip

    def __init__(self, session: Session) -> None:
        settings = session.settings
        self._session = session
        self._settings = settings
        self._streams = session.streams
        self._clock = session.clock
        self.stage = PREFACE_DUE
        self.numbers = Numbers()
        self.peer = Peer()
        self.partial: PartialBlock | None = None
        self.heard = 0
        self.is_acked = False
        self.is_leaving = False
        self._buffer = b""
        self._is_plain = (
            False  # the preface is complete and no header block is under way: frames mean what they say
        )
        self._heads = Heads(settings.max_header_list)
        self._known = self._heads.known
        self._window = settings.connection_window  # what the client may still send
        self._consumed = 0  # and was not granted again
        self._resets = Allowance(settings.resets_per_second, settings.max_resets)
        self._glitches = Allowance(settings.glitches_per_second, settings.max_glitches)
        self._pings = PingPolicy(settings.ping_interval, settings.ping_without_streams, settings.ping_strikes)

    def feed(self, data: bytes) -> None:
        """Take bytes from the client.

        :raises ConnectionFault: the client broke a rule that the connection depends on.
        """
        self.heard += 1
        if self._buffer:
            data = self._buffer + data
        size = len(data)
        pos = 0
        if self.stage == PREFACE_DUE:
            pos = self._preface(data)
        unpack = HEADER.unpack_from
        while size - pos >= HEADER_SIZE and self.stage:
            high, low, kind, flags, number = unpack(data, pos)
            length = high << 8 | low
            if length > MAX_FRAME:
                raise ConnectionFault(FRAME_SIZE_ERROR, "a frame is too large")
            start = pos + HEADER_SIZE
            end = start + length
            if end > size:
                break
            pos = end
            if number > MAX_ID:
                number &= MAX_ID
            if not self._is_plain:
                self._special(kind, flags, number, data[start:end])
            elif kind == DATA:
                self._data(flags, number, data[start:end])
            elif kind == HEADERS and flags & _SHAPE == END_HEADERS:
                block = data[start:end]
                if flags & END_STREAM or size - end < HEADER_SIZE:
                    self._block(number, block, flags & END_STREAM != 0, "")
                else:
                    end = self._whole(number, block, data, end)
                    if end:
                        pos = end
                    else:
                        self._block(number, block, False, "")
            else:
                self._other(kind, flags, number, data[start:end])
            if self._session.is_closing:
                self._buffer = b""
                return
        self._buffer = data[pos:] if pos else data

    def is_in_block(self) -> bool:
        """Whether a header block has begun whose end has not come."""
        return self.partial is not None or self._buffer[3:4] == b"\x01"

    # ------------------------------------------------------------------------- preface and dispatch

    def _preface(self, data: bytes) -> int:
        """How much of *data* the preface took; 0 until it is complete."""
        if not PREFACE.startswith(data[: len(PREFACE)]):
            raise ConnectionFault(PROTOCOL_ERROR, "not the preface of HTTP/2")
        if len(data) < len(PREFACE):
            return 0
        self.stage = SETTINGS_DUE
        return len(PREFACE)

    def _special(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """A frame while only one kind may come."""
        if self.stage == SETTINGS_DUE:
            if kind != SETTINGS or flags & ACK:
                raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS must come first")
            self._peer_settings(flags, number, payload)
            self.stage = COMPLETE
            self._is_plain = True
            return
        partial = self.partial
        if partial is None or kind != CONTINUATION:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame inside a header block")
        partial.add(number, payload)
        if flags & END_HEADERS:
            self.partial = None
            self._is_plain = True
            self._block(number, partial.whole(), partial.end, partial.fault)

    def _other(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """All frames but DATA and bare HEADERS."""
        if kind == WINDOW_UPDATE:
            self._window_update(number, payload)
        elif kind == HEADERS:
            self._headers(flags, number, payload)
        elif kind == SETTINGS:
            self._peer_settings(flags, number, payload)
        elif kind == PING:
            self._ping(flags, number, payload)
        elif kind == RST_STREAM:
            self._rst_stream(number, payload)
        elif kind == PRIORITY:
            self._priority(number, payload)
        elif kind == GOAWAY:
            self._goaway(number, payload)
        elif kind == CONTINUATION:
            raise ConnectionFault(PROTOCOL_ERROR, "CONTINUATION without a header block")
        elif kind == PUSH_PROMISE:
            raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE from a client")
        else:
            self._glitch()  # unknown frames are ignored (section 4.1)

    def _state(self, number: int) -> int:
        stream = self._streams.get(number)
        return self.numbers.state(number) if stream is None else stream.state

    def _rule(self, kind: int, number: int) -> int:
        """What becomes of a frame, with the two connection errors raised."""
        rule = RULES[self._state(number)][kind]
        if rule == NOT_ALLOWED:
            raise ConnectionFault(PROTOCOL_ERROR, "a frame for a stream that is not open")
        if rule == STREAM_ENDED:
            raise ConnectionFault(STREAM_CLOSED, "HEADERS for a stream that has ended")
        return rule

    # ------------------------------------------------------------------------------------ content

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        length = len(payload)
        self._window -= length
        if self._window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "more than the window of the connection")
        stream = self._streams.get(number)
        if stream is None or stream.state != OPEN:
            self._stray_data(number, length)
            return
        if flags == END_STREAM and not stream.held and length <= stream.window and stream.head.length < 0:
            self._last_data(stream, payload, length)
            return
        if flags & PADDED:
            payload = unpadded(payload)
        end = flags & END_STREAM != 0
        size = len(payload)
        stream.window -= length
        stream.held += length
        stream.received += size
        if (stream.window < 0 or stream.head.length >= 0) and self._is_content_wrong(stream, end):
            return
        consumed = length - size  # the padding
        if end:
            stream.state = HALF_CLOSED
        elif not size:
            self._glitch()
        exchange = stream.exchange
        if exchange is not None and (size or end) and exchange.data(payload, end):
            consumed = length
        if stream.held:
            # Even if nothing is consumed: the windows have shrunk, and what was consumed before may be due now.
            self.consume(stream, consumed)

    def _last_data(self, stream: Stream, payload: bytes, length: int) -> None:
        """The short way of the end of a request of which nothing is held: its window is of no more use."""
        stream.window -= length
        stream.received += length
        stream.state = HALF_CLOSED
        stream.held = length
        exchange = stream.exchange
        if exchange is not None and exchange.data(payload, True) and stream.held:
            stream.held = 0
            self._consumed += length
        # Even if nothing was: the window has shrunk, and what was consumed before may be due now.
        if self._consumed >= self._window:
            self._grant()

    def _is_content_wrong(self, stream: Stream, end: bool) -> bool:
        """Whether the client broke a promise by this DATA; then the stream is refused."""
        length = stream.head.length
        if stream.window < 0:
            self.refuse(stream.id, FLOW_CONTROL_ERROR, "more than the window of the stream")
        elif length >= 0 and (stream.received > length or (end and stream.received < length)):
            self.refuse(stream.id, PROTOCOL_ERROR, "content that is not as long as its content-length")
        else:
            return False
        return True

    def _stray_data(self, number: int, length: int) -> None:
        """DATA for a stream that takes none. It counts all the same (section 5.2), and is given back at once."""
        rule = self._rule(DATA, number)
        self.refund(length)
        if rule == REFUSE:
            self.refuse(number, STREAM_CLOSED, "DATA for a stream that has ended")

    def consume(self, stream: Stream, size: int) -> None:
        """*size* bytes of what *stream* holds are used. Grants windows where that is due."""
        size = min(size, stream.held)
        stream.held -= size
        self.refund(size)
        if stream.state == OPEN:
            stream.consumed_bytes += size
            if is_grant_due(stream.window, stream.consumed_bytes):
                self._session.outbox.put(window_update(stream.id, stream.consumed_bytes))
                stream.window += stream.consumed_bytes
                stream.consumed_bytes = 0

    def refund(self, size: int) -> None:
        """*size* bytes that the connection's window paid for are used."""
        self._consumed += size
        if self._consumed >= self._window:
            self._grant()

    def _grant(self) -> None:
        if is_grant_due(self._window, self._consumed):
            self._session.outbox.put(window_update(0, self._consumed))
            self._window += self._consumed
            self._consumed = 0

    # -------------------------------------------------------------------------------------- heads

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        """HEADERS with padding, with a priority, or without its end."""
        if flags & PADDED:
            payload = unpadded(payload)
        fault = ""
        if flags & HAS_PRIORITY:
            if len(payload) < 5:
                raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for its priority")
            if depends_on(payload) == number:
                fault = _SELF_DEPENDENT
            payload = payload[5:]
        end = flags & END_STREAM != 0
        if flags & END_HEADERS:
            self._block(number, payload, end, fault)
            return
        settings = self._settings
        self.partial = PartialBlock(
            number, end, fault, payload, settings.max_header_list, settings.max_continuations
        )
        self._is_plain = False

    def _block(self, number: int, block: bytes, end: bool, fault: str) -> None:
        """A whole header block. It is decoded whatever becomes of it, for the sake of the dynamic table."""
        head = self._known.get(block)
        if head is None:
            head = self._heads.read(block)
        if number > self.numbers.last and number & 1:  # IDLE: a request, as nearly always
            self._request(number, head, end, fault or head.fault)
            return
        rule = self._rule(HEADERS, number)
        if rule == ACCEPT:
            self._trailers(self._streams[number], head, end, fault or head.trailer_fault)
        elif rule == REFUSE:
            self.refuse(number, STREAM_CLOSED, "HEADERS after the end of the request")

    def _whole(self, number: int, block: bytes, data: bytes, pos: int) -> int:
        """The short way of a request of HEADERS and one DATA frame, which came together: as most calls of gRPC do.

        The end of both; 0, and nothing was done, when it is something else or has anything special.
        """
        high, low, kind, flags, other = HEADER.unpack_from(data, pos)
        length = high << 8 | low
        start = pos + HEADER_SIZE
        end: int = start + length
        if kind != DATA or flags != END_STREAM or other != number or end > len(data):
            return 0
        head = self._known.get(block)
        numbers = self.numbers
        session = self._session
        if (
            head is None
            or number != numbers.last + 2
            or length > MAX_FRAME
            or length > self._window
            or head.fault
            or head.oversized
            or (head.length >= 0 and head.length != length)
            or len(self._streams) >= self._settings.max_streams
            or session.departure.state == LEAVING
        ):
            return 0
        numbers.last = number
        self._window -= length
        # Nothing is held and no window of the stream's is needed again.
        self._consumed += length
        if self._consumed >= self._window:
            self._grant()
        stream = Stream(session, session.outbox, number, head, True, self.peer.window)
        stream.received = length
        session.open_whole(stream, data[start:end])
        return end

    def _request(self, number: int, head: Head, end: bool, fault: str) -> None:
        numbers = self.numbers
        if number == numbers.last + 2:
            numbers.last = number
        else:
            numbers.skipped_to(number)
        session = self._session
        if session.departure.state == LEAVING:
            self.refuse(number, REFUSED_STREAM, "a stream after the last GOAWAY")
        elif len(self._streams) >= self._settings.max_streams:
            self.refuse(number, REFUSED_STREAM, "too many streams")
        elif head.oversized:
            self._refuse_oversized(number, end)
        elif fault:
            self.refuse(number, PROTOCOL_ERROR, fault)
        elif end and head.length > 0:
            self.refuse(number, PROTOCOL_ERROR, "no content, but a content-length")
        else:
            session.open(Stream(session, session.outbox, number, head, end, self.peer.window), end)

    def _refuse_oversized(self, number: int, end: bool) -> None:
        session = self._session
        reason = "the header fields are too large"
        if not self._settings.oversized_status:
            self.refuse(number, ENHANCE_YOUR_CALM, reason)
            return
        session.answer_oversized(number, end, reason)
        if not end:
            self.numbers.was_reset(number)
        self._count_reset()

    def _trailers(self, stream: Stream, head: Head, end: bool, fault: str) -> None:
        if head.oversized:
            self.refuse(stream.id, ENHANCE_YOUR_CALM, "the trailers are too large")
        elif not end:
            self.refuse(stream.id, PROTOCOL_ERROR, "trailers that do not end the stream")
        elif fault:
            self.refuse(stream.id, PROTOCOL_ERROR, fault)
        elif 0 <= stream.head.length != stream.received:
            self.refuse(stream.id, PROTOCOL_ERROR, "content that is not as long as its content-length")
        else:
            stream.state = HALF_CLOSED
            exchange = stream.exchange
            if exchange is not None:
                exchange.trailers(head.fields)

    # ------------------------------------------------------------------------------ other frames

    def _rst_stream(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of RST_STREAM")
        if self._rule(RST_STREAM, number) == ACCEPT:
            self._session.drop(self._streams[number], U32.unpack(payload)[0])
            self._count_reset()

    def _window_update(self, number: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of WINDOW_UPDATE")
        increment = U32.unpack(payload)[0] & MAX_ID
        if self._rule(WINDOW_UPDATE, number) != ACCEPT:
            if not increment:
                self._glitch()
        elif not number:
            if not increment:
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
            if not self._session.outbox.widen(increment):
                raise ConnectionFault(FLOW_CONTROL_ERROR, "the window of the connection overflows")
        elif not increment:
            self.refuse(number, PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        elif not self._widen(self._streams[number], increment):
            self.refuse(number, FLOW_CONTROL_ERROR, "the window of the stream overflows")

    def _widen(self, stream: Stream, increment: int) -> bool:
        """False when the stream's window overflows. Wakes it if it waits for that window."""
        stream.send_window = grown(stream.send_window, increment)
        if stream.waits == WINDOW and stream.send_window > 0:
            self._session.outbox.enter(stream)
        return stream.send_window != OVERFLOW

    def _peer_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & ACK:
            if payload:
                raise ConnectionFault(FRAME_SIZE_ERROR, "an acknowledgement with content")
            self.is_acked = True
            return
        self._glitch()
        window = self.peer.window
        self.peer.read(payload)
        outbox = self._session.outbox
        if self.peer.small_table:
            outbox.shrink_table()
        outbox.put(SETTINGS_ACK)
        if self.peer.window != window:
            for stream in self._streams.values():
                if not self._widen(stream, self.peer.window - window):
                    raise ConnectionFault(FLOW_CONTROL_ERROR, "SETTINGS let the window of a stream overflow")

    def _ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of PING")
        if flags & ACK:
            self._session.ping_acknowledged(payload)
            return
        self._glitch()
        outbox = self._session.outbox
        if self._pings.exceeded(self._clock(), len(self._streams), outbox.answers):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too_many_pings")  # gRPC clients know this word
        outbox.put(ping(payload, True))

    def _priority(self, number: int, payload: bytes) -> None:
        """Priorities are ignored, but for what would be wrong in any case (section 6.3)."""
        self._rule(PRIORITY, number)
        if len(payload) == 5 and depends_on(payload) != number:
            self._glitch()
            return
        code = PROTOCOL_ERROR if len(payload) == 5 else FRAME_SIZE_ERROR
        reason = _SELF_DEPENDENT if len(payload) == 5 else "the length of PRIORITY"
        state = self._state(number)
        if state in (OPEN, HALF_CLOSED):
            self.refuse(number, code, reason)
        elif state == IDLE or code == FRAME_SIZE_ERROR:
            # An idle stream cannot be reset (section 6.4), nor one that is over; and no sound client gets here.
            raise ConnectionFault(code, reason)
        else:
            self._glitch()

    def _goaway(self, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise ConnectionFault(FRAME_SIZE_ERROR, "the length of GOAWAY")
        self.is_leaving = True

    # ------------------------------------------------------------------------------------- limits

    def refuse(self, number: int, code: int, reason: str) -> None:
        """A stream error of the client's making.

        :raises ConnectionFault: one too many.
        """
        self._session.reset_stream(number, code, reason)
        self._count_reset()

    def _count_reset(self) -> None:
        if self._resets.exceeded(self._clock()):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many streams were reset")

    def _glitch(self) -> None:
        """Something that makes work and brings nothing."""
        if self._glitches.exceeded(self._clock()):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that bring nothing")


def unpadded(payload: bytes) -> bytes:
    """The payload without the padding that it announces (section 6.1).

    :raises ConnectionFault: more padding than payload.
    """
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]


def depends_on(payload: bytes) -> int:
    """The stream that a priority at the beginning of *payload* names."""
    stream: int = U32.unpack_from(payload)[0] & MAX_ID
    return stream
