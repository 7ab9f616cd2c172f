"""What a connection has to send: control frames at once, the streams' answers in turn, as windows allow.

It decides what is sent next and how much; the session decides when.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from twisted_rr.http2.blocks import Block
from twisted_rr.http2.flow import OVERFLOW, grown
from twisted_rr.http2.frames import DATA, END_STREAM, HEADER, HEADER_SIZE, MAX_FRAME
from twisted_rr.http2.settings import DEFAULT_WINDOW
from twisted_rr.http2.states import CLOSED
from twisted_rr.http2.streams import CONNECTION_WINDOW, NOTHING, TURN, WINDOW, Stream

if TYPE_CHECKING:
    from twisted_rr.http2.session import Session

#: A dynamic table size update to 0 (RFC 7541 section 6.3).
_NO_TABLE: Final = b"\x20"


class Outbox:
    """The output of one connection.

    :ivar window: what the client allows all streams together.
    :ivar pieces: gathered, to leave with the next `take`.
    :ivar size: bytes of them, without some frame headers.
    :ivar limit: up to this size an answer may go straight to the pieces; 0 while streams wait for their turn, or the
        transport is full.
    :ivar max_queued: of one stream, above which its exchange should wait.
    :ivar answers: counts frames of answers, roughly: whether it has changed tells whether any was sent.
    :ivar starved: the streams that wait for that window.
    :ivar is_told: whether somebody will look at the output: the front, or the session itself.
    """

    __slots__ = (
        "_is_shrunk", "_max_size", "_opening", "_round", "_session", "answers", "is_told", "limit", "max_queued",
        "pieces", "size", "starved", "window",
    )  # fmt: skip

    def __init__(self, session: Session, max_size: int, max_queued: int) -> None:
        self._session = session
        self._max_size = max_size
        self.max_queued = max_queued
        self.pieces: list[bytes] = []
        self.size = 0
        self.limit = max_size
        self.window = DEFAULT_WINDOW
        self.answers = 0
        self.is_told = False
        self._round: deque[Stream] = deque()
        self.starved: list[Stream] = []
        self._opening = b""
        self._is_shrunk = False

    def put(self, frame: bytes) -> None:
        """Send a control frame, before all that waits."""
        if frame:
            self.pieces.append(frame)
            self.size += len(frame)
            if not self.is_told:
                self._session.tell()

    def put_answer(self, number: int, head: Block) -> None:
        """The same for a whole answer on a stream that was not opened."""
        opening, self._opening = self._opening, b""
        self.put(head.frames(number, True, opening))

    def hold(self) -> None:
        """The transport is full: gather nothing before `release`."""
        self.limit = 0

    def release(self) -> None:
        """The transport has room again."""
        self.limit = 0 if self._opening or self._round else self._max_size

    def shrink_table(self) -> None:
        """Begin the next header block by saying that no dynamic table is used; once is enough."""
        if not self._is_shrunk:
            self._is_shrunk = True
            self._opening = _NO_TABLE
            self.limit = 0

    def has_output(self) -> bool:
        """Whether `take` would have something to give."""
        return bool(self.pieces) or bool(self._round)

    def enter(self, stream: Stream) -> None:
        """*stream* has something to send and waits for nothing but its turn. The waker is the next flush."""
        stream.waits = TURN
        self._round.append(stream)
        self.limit = 0
        if not self.is_told:
            self._session.tell()

    def forget(self, stream: Stream) -> None:
        """*stream* is over: it must not stay where it waits, or a client could pile up such streams."""
        if stream.waits == TURN:
            self._round.remove(stream)
        elif stream.waits == CONNECTION_WINDOW:
            self.starved.remove(stream)
        stream.waits = NOTHING

    def widen(self, increment: int) -> bool:
        """WINDOW_UPDATE on the connection; False when the window overflows. Wakes the streams that wait for it."""
        self.window = grown(self.window, increment)
        if self.window > 0 and self.starved:
            starved = self.starved
            self.starved = []
            for stream in starved:
                self.enter(stream)
        return self.window != OVERFLOW

    def take(self) -> bytes:
        """The next piece to write, of about the largest size; ``b""`` when nothing can be sent."""
        self.gather()
        pieces = self.pieces
        self.pieces = []
        self.size = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def gather(self) -> None:
        """Let the streams send, one frame each in turn, as long as the limit allows."""
        turns = self._round
        while turns and self.size < self._max_size:
            self._turn(turns.popleft())

    def _turn(self, stream: Stream) -> None:
        first = stream.queue[0] if stream.queue else b""
        if isinstance(first, Block):
            self._send_block(stream, first)
        elif first and stream.send_window <= 0:
            stream.waits = WINDOW
            return
        elif first and self.window <= 0:
            stream.waits = CONNECTION_WINDOW
            self.starved.append(stream)
            return
        else:
            self._send_data(stream)
        self._next(stream)

    def _next(self, stream: Stream) -> None:
        """After a frame: what the stream waits for now."""
        if stream.state == CLOSED:
            return
        if stream.queue:
            self._round.append(stream)
        else:
            stream.waits = NOTHING
        if stream.full and stream.queued * 2 <= self.max_queued:
            # The waker of an exchange that was told to wait: nothing but this call.
            stream.full = False
            exchange = stream.exchange
            if exchange is not None:
                exchange.writable()

    def _send_block(self, stream: Stream, block: Block) -> None:
        del stream.queue[0]
        end = stream.ending and not stream.queue
        if block.prefix and not self._opening:
            self.pieces += (block.prefix_end if end else block.prefix, stream.id4, block.data)
        else:
            self.pieces.append(block.frames(stream.id, end, self._opening))
            self._opening = b""
        self.size += block.size
        self.answers += 1
        if end:
            self._session.finish(stream)

    def _send_data(self, stream: Stream) -> None:
        """One DATA frame of as many of the queued pieces as fit, for small pieces are dear one by one."""
        room = min(stream.send_window, self.window, MAX_FRAME)
        pieces = cut(stream, room)
        size = sum(map(len, pieces))
        end = stream.ending and not stream.queue
        flags = END_STREAM if end else 0
        self.pieces.append(HEADER.pack(size >> 8, size & 0xFF, DATA, flags, stream.id))
        self.pieces += pieces
        self.size += size + HEADER_SIZE
        self.window -= size
        stream.send_window -= size
        stream.queued -= size
        self.answers += 1
        if end:
            self._session.finish(stream)


def cut(stream: Stream, room: int) -> list[bytes]:
    """Take at most *room* bytes of content from the front of the stream's queue."""
    pieces: list[bytes] = []
    count = 0
    offset = stream.offset
    for piece in stream.queue:
        if room <= 0 or isinstance(piece, Block):
            break
        left = len(piece) - offset
        if left > room:
            pieces.append(piece[offset : offset + room])
            offset += room
            break
        pieces.append(piece[offset:] if offset else piece)
        room -= left
        offset = 0
        count += 1
    stream.offset = offset
    del stream.queue[:count]
    return pieces
