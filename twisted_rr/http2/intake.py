"""What a client sends: frames out of bytes, and the requests that they make up (RFC 9113 sections 4 to 8).

What a frame may do in which state is in `states`, heads in `hpack` and `head`, frames without a request in `control`;
output, and how a connection ends, are the session's.
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
from twisted_rr.http2.control import SELF_DEPENDENT, Control, depends_on
from twisted_rr.http2.flow import is_grant_due
from twisted_rr.http2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HAS_PRIORITY,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    MAX_FRAME,
    MAX_ID,
    PADDED,
    PREFACE,
    SETTINGS,
    U32,
    WINDOW_UPDATE,
    window_update,
)
from twisted_rr.http2.goaway import LEAVING
from twisted_rr.http2.hpack import Heads
from twisted_rr.http2.partial import PartialBlock
from twisted_rr.http2.states import ACCEPT, HALF_CLOSED, OPEN, REFUSE, Numbers
from twisted_rr.http2.streams import Stream

if TYPE_CHECKING:
    from twisted_rr.http2.head import Head
    from twisted_rr.http2.session import Session

# What has come of the client's preface (section 3.4).
PREFACE_DUE: Final = 0
SETTINGS_DUE: Final = 1
COMPLETE: Final = 2

#: A HEADERS frame that has, of these, END_HEADERS only is nothing but a block.
_SHAPE: Final = PADDED | HAS_PRIORITY | END_HEADERS


class Intake:
    """The input of one connection.

    A request whose head has come is *young* until its first DATA, or until all that was read is looked through:
    then its front hears of it, in the first case of the content too. Most calls of gRPC are complete by that, and
    one that the same read takes back again is never begun.

    :ivar stage: of the client's preface.
    :ivar numbers: of its streams.
    :ivar control: what it has said besides requests.
    :ivar partial: a header block whose end has not come, None for none.
    :ivar heard: changes with everything received.
    """

    __slots__ = (
        "control", "heard", "numbers", "partial", "stage",
        "_buffer", "_consumed", "_heads", "_is_plain", "_known", "_max_streams", "_peer", "_session", "_settings",
        "_streams", "_window", "_young",
    )  # fmt: skip

    def __init__(self, session: Session) -> None:
        settings = session.settings
        self._session = session
        self._settings = settings
        self._max_streams = settings.max_streams
        self._streams = session.streams
        self.stage = PREFACE_DUE
        self.numbers = Numbers()
        self.control = Control(session, self.numbers)
        self._peer = self.control.peer
        self.partial: PartialBlock | None = None
        self.heard = 0
        self._buffer = b""
        self._is_plain = (
            False  # the preface is complete and no header block is under way: frames mean what they say
        )
        self._heads = Heads(settings.max_header_list)
        self._known = self._heads.known
        self._young: dict[int, Stream] = {}
        self._window = settings.connection_window  # what the client may still send
        self._consumed = 0  # and was not granted again

    @property
    def is_leaving(self) -> bool:
        """Whether the client has sent GOAWAY."""
        return self.control.is_leaving

    def feed(self, data: bytes) -> None:  # noqa: C901
        """Take bytes from the client. Flat on purpose: all frames pass here.

        :raises ConnectionFault: the client broke a rule that the connection depends on.
        """
        self.heard += 1
        if self._buffer:
            data = self._buffer + data
        size = len(data)
        pos = 0
        if self.stage == PREFACE_DUE:
            pos = self._preface(data)
        session = self._session
        young = self._young
        known = self._known
        widen = self.control.widen
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
                if young and number in young:
                    self._first_data(young.pop(number), flags, data[start:end])
                else:
                    self._data(flags, number, data[start:end])
            elif kind == HEADERS:
                if flags & _SHAPE == END_HEADERS:
                    block = data[start:end]
                    head = known.get(block)
                    if head is None or flags & END_STREAM or not self._again(number, head):
                        self._block(number, block, flags & END_STREAM != 0, "")
                else:
                    self._headers(flags, number, data[start:end])
            elif kind == WINDOW_UPDATE and length == 4 and widen(number, U32.unpack_from(data, start)[0]):
                continue
            else:
                self.control.frame(kind, flags, number, data[start:end])
            if session.is_closing:
                break
        if young:
            self._begin_young()
        self._buffer = b"" if session.is_closing else data[pos:] if pos else data

    def forget_heads(self) -> None:
        """Decode again what comes again: the table that the client counts on stays as it is."""
        self._known.clear()

    def is_in_block(self) -> bool:
        """Whether a header block has begun whose end has not come."""
        return self.partial is not None or self._buffer[3:4] == b"\x01"

    # -------------------------------------------------------------------------------- the preface

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
            self.control.settings(flags, number, payload)
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

    # ------------------------------------------------------------------------------------ content

    def _first_data(self, stream: Stream, flags: int, payload: bytes) -> None:
        """DATA for a young stream; its front hears of both together when that is all, and nothing is special."""
        length = len(payload)
        expected = stream.head.length
        if (
            flags != END_STREAM
            or stream.state != OPEN
            or length > self._window
            or length > stream.window
            or (expected >= 0 and expected != length)
        ):
            self._begin(stream)
            self._data(flags, stream.id, payload)
            return
        # Nothing is held, and no window of the stream's is needed again.
        self._window -= length
        self._consumed += length
        if self._consumed >= self._window:
            self._grant()
        stream.received = length
        stream.state = HALF_CLOSED
        self._session.open_whole(stream, payload)

    def _begin(self, stream: Stream) -> None:
        # One that is closed was reset before its front could hear of it.
        if stream.state == OPEN:
            self._session.open(stream, False)

    def _begin_young(self) -> None:
        """All that was read is looked through: the fronts of the other streams hear of them."""
        streams = list(self._young.values())
        self._young.clear()
        for stream in streams:
            self._begin(stream)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        length = len(payload)
        self._window -= length
        if self._window < 0:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "more than the window of the connection")
        stream = self._streams.get(number)
        if stream is None or stream.state != OPEN:
            self._stray_data(number, length)
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
            self.control.glitch()
        exchange = stream.exchange
        if exchange is not None and (size or end) and exchange.data(payload, end):
            consumed = length
        if stream.held:
            # Even if nothing is consumed: the windows have shrunk, and what was consumed before may be due now.
            self.consume(stream, consumed)

    def _is_content_wrong(self, stream: Stream, end: bool) -> bool:
        """Whether the client broke a promise by this DATA; then the stream is refused."""
        length = stream.head.length
        if stream.window < 0:
            self.control.refuse(stream.id, FLOW_CONTROL_ERROR, "more than the window of the stream")
        elif length >= 0 and (stream.received > length or (end and stream.received < length)):
            self.control.refuse(
                stream.id, PROTOCOL_ERROR, "content that is not as long as its content-length"
            )
        else:
            return False
        return True

    def _stray_data(self, number: int, length: int) -> None:
        """DATA for a stream that takes none. It counts all the same (section 5.2), and is given back at once."""
        rule = self.control.rule(DATA, number)
        self.refund(length)
        if rule == REFUSE:
            self.control.refuse(number, STREAM_CLOSED, "DATA for a stream that has ended")

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
                fault = SELF_DEPENDENT
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
        rule = self.control.rule(HEADERS, number)
        if rule == ACCEPT:
            stream = self._streams[number]
            if self._young.pop(number, None) is not None:
                self._begin(stream)
            if stream.state == OPEN:
                self._trailers(stream, head, end, fault or head.trailer_fault)
        elif rule == REFUSE:
            self.control.refuse(number, STREAM_CLOSED, "HEADERS after the end of the request")

    def _again(self, number: int, head: Head) -> bool:
        """The short way of a request whose head is known; False, and nothing was done, where anything is special."""
        session = self._session
        numbers = self.numbers
        if (
            number != numbers.last + 2
            or not head.sound
            or len(self._streams) >= self._max_streams
            or session.departure.state == LEAVING
        ):
            return False
        numbers.last = number
        stream = Stream(session, session.outbox, number, head, False, self._peer.window)
        self._streams[number] = self._young[number] = stream
        return True

    def _request(self, number: int, head: Head, end: bool, fault: str) -> None:
        numbers = self.numbers
        if number == numbers.last + 2:
            numbers.last = number
        else:
            numbers.skipped_to(number)
        session = self._session
        if session.departure.state == LEAVING:
            self.control.refuse(number, REFUSED_STREAM, "a stream after the last GOAWAY")
        elif len(self._streams) >= self._max_streams:
            self.control.refuse(number, REFUSED_STREAM, "too many streams")
        elif head.oversized:
            self._refuse_oversized(number, end)
        elif fault:
            self.control.refuse(number, PROTOCOL_ERROR, fault)
        elif end and head.length > 0:
            self.control.refuse(number, PROTOCOL_ERROR, "no content, but a content-length")
        else:
            stream = Stream(session, session.outbox, number, head, end, self._peer.window)
            self._streams[number] = stream
            if end:
                session.open(stream, True)
            else:
                self._young[number] = stream

    def _refuse_oversized(self, number: int, end: bool) -> None:
        session = self._session
        reason = "the header fields are too large"
        if not self._settings.oversized_status:
            self.control.refuse(number, ENHANCE_YOUR_CALM, reason)
            return
        session.answer_oversized(number, end, reason)
        if not end:
            self.numbers.was_reset(number)
        self.control.count_reset()

    def _trailers(self, stream: Stream, head: Head, end: bool, fault: str) -> None:
        refuse = self.control.refuse
        if head.oversized:
            refuse(stream.id, ENHANCE_YOUR_CALM, "the trailers are too large")
        elif not end:
            refuse(stream.id, PROTOCOL_ERROR, "trailers that do not end the stream")
        elif fault:
            refuse(stream.id, PROTOCOL_ERROR, fault)
        elif 0 <= stream.head.length != stream.received:
            refuse(stream.id, PROTOCOL_ERROR, "content that is not as long as its content-length")
        else:
            stream.state = HALF_CLOSED
            exchange = stream.exchange
            if exchange is not None:
                exchange.trailers(head.fields)


def unpadded(payload: bytes) -> bytes:
    """The payload without the padding that it announces (section 6.1).

    :raises ConnectionFault: more padding than payload.
    """
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(PROTOCOL_ERROR, "more padding than payload")
    return payload[1 : len(payload) - payload[0]]
