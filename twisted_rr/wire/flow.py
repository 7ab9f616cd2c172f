"""What one side of a mux call has to send: its queue, its credit, and cutting frames from them.

The arithmetic of credit is in credit.py; turns between calls are the ends' affair.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted_rr.errors import TooLarge
from twisted_rr.wire.frame import CODEC_RAW, MESSAGE, PART, STREAM, TEXT, prefix
from twisted_rr.wire.messages import Assembly
from twisted_rr.wire.mux_frames import CALL_WORDS, END_FRAME, TWO
from twisted_rr.wire.mux_settings import MAX_CONTEXT

HIGH: Final = 262144
"""Bytes of body queued in one call above which its source is held."""
SHARE: Final = 16384
"""Bytes of small messages that pass for one frame in a call's turn: alone each would cost more than all of them."""
OVERHEAD: Final = 20
"""Bytes of a frame without its context and data."""
LOW: Final = HIGH // 2
"""Below this the source of a held call is asked to go on."""
MANY: Final = 16384
"""Messages queued in one call above which its source is held, however small they are."""
FEW: Final = MANY // 2
"""As `LOW`."""


class Piece:
    """A queued part of a call that is more than plain bytes: it has a context, or is a message.

    :ivar late: the context belongs on the last frame of the message, not on its first.
    """

    __slots__ = ("context", "data", "message", "text", "late")

    def __init__(self, context: bytes, data: bytes, message: bool, text: bool, late: bool = False) -> None:
        self.context = context
        self.data = data
        self.message = message
        self.text = text
        self.late = late


class Flow:
    """One call's way out of this side, and the numbers of its way in.

    :ivar id: the call's id on the wire, 0 before it has one.
    :ivar queue: what was handed over and not framed yet, in order.
    :ivar queued: its bytes of body.
    :ivar more: the source may still add to it.
    :ivar trailer: makes the context that ends it, once the codec is known.
    :ivar credit_out: what the peer accepts now, in bytes as `credit.cost` counts them.
    :ivar credit_in: what we still accept.
    :ivar taken: what our consumer took and was not granted again yet.
    :ivar active: it stands in the ring of those whose turn to send comes.
    :ivar granting: a CREDIT for it is due.
    :ivar sent_end: our last frame was built.
    :ivar full: its source was told to wait.
    :ivar assembly: the message that is coming in parts, if one is.
    """

    __slots__ = (
        "id", "queue", "queued", "more", "trailer", "credit_out", "credit_in", "taken",
        "active", "granting", "sent_end", "full", "assembly", "_offset",
    )  # fmt: skip

    def __init__(self, id: int, credit_in: int, credit_out: int) -> None:
        self.id = id
        self.queue: deque[bytes | Piece] = deque()
        self.queued = 0
        self.more = True
        self.trailer: Callable[[int], bytes] | None = None
        self.credit_out = credit_out
        self.credit_in = credit_in
        self.taken = 0
        self.active = False
        self.granting = False
        self.sent_end = False
        self.full = False
        self.assembly: Assembly | None = None
        self._offset = 0  # bytes of the queue's first item that were framed

    def drop(self) -> None:
        """Throw away what is queued, and a message half come: the call is over on this side."""
        self.assembly = None
        if self.queue:
            self.queue.clear()
        self.queued = 0
        self._offset = 0
        self.trailer = None

    def ready(self) -> bool:
        """Whether `cut` can build a frame now. If not, the waker is the peer's CREDIT or the source."""
        if not self.queue:
            return not self.more and not self.sent_end
        if self.credit_out > 0:
            return True
        first = self.queue[0]
        return isinstance(first, Piece) and not first.data and not first.message

    def cut(self, codec: int, max_frame: int, out: list[Any]) -> int:
        """Build the next frame into *out*, bytes and views of bytes, when `ready`; returns its size."""
        room = min(max_frame, self.credit_out)
        if not self.queue:
            return self._cut_end(codec, out)
        first = self.queue[0]
        if isinstance(first, Piece):
            return self._cut_piece(first, room, codec, out)
        return self._cut_bytes(room, out)

    def cut_run(self, codec: int, max_frame: int, out: list[Any]) -> int:
        """The same, with the small messages that follow."""
        size = self.cut(codec, max_frame, out)
        queue = self.queue
        while queue and size < SHARE and not self._offset:
            piece = queue[0]
            if not isinstance(piece, Piece) or not piece.message or piece.context:
                break
            data = piece.data
            price = len(data) or 1
            if price > self.credit_out or price > max_frame:
                break
            queue.popleft()
            self.credit_out -= price
            self.queued -= len(data)
            bits = MESSAGE | (TEXT if piece.text else 0) | (STREAM if self._goes_on() else 0)
            size += self._put(out, CODEC_RAW, bits, b"", data)
        return size

    def woken(self) -> bool:
        """Whether its source, held before, is to be asked to go on; true once."""
        if self.full and self.queued < LOW and len(self.queue) < FEW:
            self.full = False
            return True
        return False

    def _goes_on(self) -> bool:
        if self.more or self.queue or self.trailer is not None:
            return True
        self.sent_end = True
        return False

    def _put(self, out: list[Any], flags: int, bits: int, context: bytes, data: Any) -> int:
        size = len(context)
        out.append(prefix(CALL_WORDS, flags, bits, size + len(data)))
        out.append(TWO.pack(size, self.id))
        if size:
            out.append(context)
        out.append(data)
        return 20 + size + len(data)

    def _cut_end(self, codec: int, out: list[Any]) -> int:
        self.sent_end = True
        context = self.trailer(codec) if self.trailer is not None else b""
        self.trailer = None
        if len(context) > MAX_CONTEXT:
            raise TooLarge(f"a context of {len(context)} bytes, at most {MAX_CONTEXT} are possible")
        if context:
            return self._put(out, codec, 0, context, b"")
        out.append(END_FRAME)
        out.append(TWO.pack(0, self.id))
        return 20

    def _cut_piece(self, piece: Piece, room: int, codec: int, out: list[Any]) -> int:
        start = self._offset
        rest = len(piece.data) - start
        whole = rest <= room
        data: Any = piece.data
        if start or not whole:
            data = memoryview(data)[start:] if whole else memoryview(data)[start : start + room]
        if whole:
            self.queue.popleft()
            self._offset = 0
        else:
            self._offset = start + room
        size = len(data)
        self.credit_out -= size or 1 if whole and piece.message else size
        self.queued -= size
        bits = STREAM if self._goes_on() else 0
        if piece.message:
            bits |= MESSAGE | (TEXT if piece.text else 0) | (0 if whole else PART)
        context = b"" if piece.late and not whole else piece.context
        if context:
            piece.context = b""
        return self._put(out, codec if context else CODEC_RAW, bits, context, data)

    def _cut_bytes(self, room: int, out: list[Any]) -> int:
        """A frame of up to *room* bytes from the front of the queue. Nothing is joined: that is the writer's affair."""
        queue = self.queue
        at = len(out)
        out.append(b"")  # the header's place
        size = 0
        while queue and size < room:
            item = queue[0]
            if not isinstance(item, bytes):
                break
            start = self._offset
            end = start + room - size
            if end < len(item):
                out.append(memoryview(item)[start:end])
                self._offset = end
                size = room
                break
            out.append(memoryview(item)[start:] if start else item)
            size += len(item) - start
            self._offset = 0
            queue.popleft()
        self.credit_out -= size
        self.queued -= size
        bits = STREAM if self._goes_on() else 0
        out[at] = prefix(CALL_WORDS, CODEC_RAW, bits, size) + TWO.pack(0, self.id)
        return 20 + size
