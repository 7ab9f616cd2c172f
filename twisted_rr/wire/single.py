"""The server's end of a relay that carries one call at a time (protocol.md 3.4 and 3.8).

Spooling the body, time limits and stopping the process are its owner's.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any, BinaryIO, Final, Protocol

from twisted_rr.errors import ApplicationError, Cancelled, FrameError, TooLarge, Truncated
from twisted_rr.wire.buffer import Pending
from twisted_rr.wire.call import Call, Refused
from twisted_rr.wire.control import encode_control
from twisted_rr.wire.frame import (
    CODECS,
    ERROR,
    FIRST_BYTES,
    MAX_PAYLOAD,
    PING,
    PONG,
    PREFIX,
    STOP,
    STREAM,
    garbage,
    looks_wrong,
    parse_prefix,
    parsed_before,
    prefix,
)
from twisted_rr.wire.payload import STOP_ANSWER, asks_replacement

WHOLE: Final = 65536
"""A frame up to this size is waited for, so that it is one callback; a larger one is streamed."""
PIECE: Final = 65536
"""Bytes read from a file at once."""
MAX_TEXT: Final = 65536
"""How much of an ERROR frame's text is kept."""

_ONE: Final = Struct("<I")
_WANTS_OUT: Final = _ONE.pack(len(STOP_ANSWER)) + STOP_ANSWER
_WANTS_OUT_HEAD: Final = b"\x14" + _ONE.pack(len(STOP_ANSWER))
_STOP: Final = prefix(3, 0, STOP, 0)
_PONG: Final = prefix(3, 0, PONG, 0)


class SingleServerOwner(Protocol):
    """Who holds a `SingleServerEnd`."""

    def dirty(self) -> None:
        """There is something to `take`. Said once, until a ``take`` returned nothing."""

    def push(self) -> None:
        """There is something to `take`, all that there is in one piece: send it at once."""

    def freed(self, call: Call) -> None:
        """The worker is idle again; look at ``accepting`` before giving it another call.

        Said before the call's receiver gets an answer that is complete in one frame, so that the worker has its next call
        while the client is sent that answer.
        """

    def refused(self, call: Call) -> bool:
        """The worker answered ``{"stop":true}``: replace it, and run the call elsewhere if True is returned."""

    def said(self, message: dict[str, Any]) -> None:
        """``{"retire": True}``: the worker is to be replaced; `accepting` is already False."""

    def pause(self) -> None:
        """Stop reading the relay: the only call's consumer is full."""

    def resume(self) -> None:
        """Read the relay again."""


class SingleServerEnd:
    """One relay's server side, one call at a time.

    :ivar load: 0 or 1.
    :ivar limit: always 1.
    :ivar call: the call whose answer is due, cancelled or not; None when idle.
    :ivar accepting: False once the worker has to be replaced (an answer ``{"stop":true}``, an ERROR in
        mid-stream) or is lost.
    :ivar missed: always False, there is no heartbeat.
    :ivar streaming: a frame with STREAM has come, so more frames are due.
    """

    __slots__ = (
        "owner", "max_context", "limit", "load", "accepting", "missed", "call", "streaming",
        "_head", "_body", "_left", "_urgent", "_dirty", "_asked", "_stopped", "_paused", "_lost",
        "_pending", "_rest", "_more", "_error", "_unended",
    )  # fmt: skip

    def __init__(self, owner: Any, max_context: int = 1048576) -> None:
        self.owner = owner
        self.max_context = max_context
        self.limit = 1
        self.load = 0
        self.accepting = True
        self.missed = False
        self.call: Call | None = None
        self.streaming = False
        # Towards the worker: what is left of the request, then control frames.
        self._head = b""
        self._body: BinaryIO | None = None
        self._left = 0
        self._urgent: list[bytes] = []
        self._dirty = False
        self._asked = 0  # bytes that were handed over since the call was started
        self._stopped = False  # STOP was sent for this call
        self._paused = False  # the owner was told not to read
        self._lost = False
        # From the worker: a large frame under way.
        self._pending = Pending()
        self._rest = 0  # bytes of it still to come
        self._more = False  # its STREAM bit
        self._error: list[bytes] | None = None  # it is an ERROR frame: its text so far
        self._unended: Call | None = None  # its receiver took no end: `fail_all` tells it

    # ------------------------------------------------------------------ calls, as the owner sees them

    def start(self, call: Call, flags: int, context: bytes, body: bytes | BinaryIO, length: int) -> None:
        """Send *call* to the idle worker. *length* bytes are read from a *body* that is a file.

        The file must stay open until ``owner.freed``, also when the call is cancelled: a frame that was
        begun has to be completed.

        :raises TooLarge: context and body do not fit in one frame (4 GiB); nothing was queued.
        """
        if self.call is not None:
            raise RuntimeError("the worker is not idle")
        if len(context) + length > MAX_PAYLOAD:
            raise TooLarge(f"{len(context) + length} bytes of payload, a frame holds {MAX_PAYLOAD}")
        head = prefix(4, flags, 0, len(context) + length) + _ONE.pack(len(context)) + context
        call.end = self
        self.call = call
        self.load = 1
        self._asked = 0
        self._stopped = False
        self.streaming = False
        if not isinstance(body, bytes):
            self._head = head
            self._body = body
            self._left = length
            self._wake()
            return
        self._head = head + body if body else head
        if not self._dirty:
            self.owner.push()

    def pump(self, call: Call) -> None:
        """For `Call`: nothing; the whole body was given to `start`."""

    def cancel(self, call: Call, reason: str) -> None:
        """For `Call`: its receiver is told; the worker is free once it has answered, at once if it was not asked."""
        call.cancelled = True
        call.fail(Cancelled(reason))
        if not self._asked:
            self._head = b""
            self._body = None
            self._left = 0
            self._free(call)
            return
        if self.streaming:
            self._stop()
        self._go_on()  # a paused answer has to be drained

    def resume(self, call: Call) -> None:
        """For `Call`: its consumer takes again: read on."""
        self._go_on()

    def control(self, message: dict[str, Any]) -> None:
        """Queue a control frame, ``{"stop": True}``; it follows the request under way."""
        self._urgent.append(encode_control(message))
        self._wake()

    def tick(self, now: float) -> None:
        """Nothing: one-call workers have no heartbeat."""

    def take_back(self, unsent: int) -> None:
        """The relay is lost, and the last *unsent* bytes that were taken have not reached the worker: a call that has
        all of its bytes among them was not begun, and is refused."""
        call = self.call
        if call is None or call.ended or call.cancelled or call.answered or unsent < self._asked:
            return
        self.accepting = False
        self.call = None
        self.load = 0
        self._head = b""
        self._body = None
        self._left = 0
        call.restart()
        if not self.owner.refused(call):
            self.call = call
            self.load = 1

    def fail_all(self, error_for: Callable[[Call], Exception]) -> None:
        """The relay is lost: the call, if not ended, gets ``failed(error_for(call))``. Idempotent."""
        self._lost = True
        self.accepting = False
        call = self.call
        self.call = None
        self.load = 0
        self._body = None
        for lost in (self._unended, call):
            if lost is not None and not lost.ended:
                lost.fail(error_for(lost))
        self._unended = None

    # ------------------------------------------------------------------ towards the worker

    def take(self) -> bytes:
        """The next piece to write; a file's body comes in pieces of 64 KiB."""
        if self._lost:
            return b""
        piece = self._head
        if piece or self._left:
            self._head = b""
            if self._left:
                piece += self._read_body(PIECE)
            self._asked += len(piece)
            return piece
        if self._urgent:  # never inside a request
            piece = b"".join(self._urgent)
            self._urgent.clear()
            if self._asked:
                self._asked += len(piece)
            return piece
        self._dirty = False
        return b""

    def _read_body(self, size: int) -> bytes:
        assert self._body is not None
        piece = self._body.read(min(size, self._left))
        if not piece:
            raise RuntimeError(f"a spooled body is {self._left} bytes shorter than announced")
        self._left -= len(piece)
        if not self._left:
            self._body = None
        return piece

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._urgent.append(_STOP)
            self._wake()

    def _wake(self) -> None:
        if not self._dirty:
            self._dirty = True
            self.owner.dirty()

    # ------------------------------------------------------------------ from the worker

    def feed(self, data: bytes) -> None:
        """Bytes from the worker. An answer of up to 64 KiB is one callback, a larger one is streamed.

        :raises FrameError: the relay is lost: kill the worker, `fail_all`.
        """
        if self._lost:
            return
        call = self.call
        if (
            call is not None
            and self._asked
            and not (
                self._head
                or self._left
                or self._rest
                or self._pending.size
                or call.answered
                or call.cancelled
            )
            and self._whole(call, data)
        ):
            return
        if self._pending.size:
            data = self._pending.join(data)
        try:
            pos = 0
            while pos < len(data) and not self._lost:
                used = self._some(data, pos)
                if not used:
                    break
                pos += used
        except Exception:
            self._lost = True
            raise
        # The waker of a paused relay: resume(), cancel(), or the end of the call.
        call = self.call
        if call is not None and call.paused and not call.ended and not self._paused:
            self._paused = True
            self.owner.pause()

    def _whole(self, call: Call, data: bytes) -> bool:
        """Whether *data* is one frame and a complete answer, as most are; if so it was handled."""
        known = parsed_before(data[:PREFIX])
        if known is None:
            return False
        hl, flags, bits, length = known
        if hl != 4 or bits or flags & ERROR or len(data) != 16 + length:
            return False
        split = int.from_bytes(data[PREFIX:16], "little")
        if split > length or split > self.max_context or (split == length == len(STOP_ANSWER)):
            return False
        call.length = length - split
        call.answered = True
        call.held = None
        call.ended = True
        self._free(call)
        middle = 16 + split
        try:
            call.to.context(flags & CODECS, data[16:middle], data[middle:], False)
        except FrameError:
            self._lost = True
            call.ended = False
            self._unended = call
            raise
        return True

    def eof(self) -> None:
        """The worker closed its end.

        :raises Truncated: inside a frame.
        """
        if (self._pending.size or self._rest) and not self._lost:
            raise Truncated("the relay ended inside a frame", self._pending.peek()[:FIRST_BYTES])

    def _some(self, data: bytes, pos: int) -> int:
        """Use the next bytes; how many, 0 when more are needed first."""
        if self._rest:
            piece = data[pos : pos + self._rest]
            self._rest -= len(piece)
            self._piece(piece)
            return len(piece)
        size = len(data) - pos
        if self.call is None and not self.accepting:
            return size  # nobody waits for it, in however many pieces it comes
        if size < PREFIX:
            if looks_wrong(data[pos : pos + 1]):
                raise garbage(data[pos:])
            return self._keep(data, pos, PREFIX)
        if not self._asked or self.call is None:
            return self._unasked(data, pos)
        hl, flags, bits, length = self._header(data, pos)
        if flags & ERROR:
            return self._error_frame(4 * hl, length, data, pos)
        if size < 16:
            return self._keep(data, pos, 16)
        split = _ONE.unpack_from(data, pos + PREFIX)[0]
        if split > length:
            raise self._wrong(f"a context of {split} bytes in a payload of {length}", data, pos)
        if split > self.max_context:
            raise TooLarge(
                f"a context of {split} bytes, at most {self.max_context} are taken",
                data[pos : pos + FIRST_BYTES],
            )
        need = 16 + (length if length <= WHOLE else split)
        if size < need:
            return self._keep(data, pos, need)
        end = min(pos + 16 + length, len(data))
        self._rest = pos + 16 + length - end
        middle = pos + 16 + split
        self._frame(flags, bits, data[pos + 16 : middle], data[middle:end], length - split)
        return end - pos

    def _unasked(self, data: bytes, pos: int) -> int:
        """A worker may say ``{"stop":true}`` after its answer, as ``$worker->stop()`` does; nothing else.

        RoadRunner takes it for the answer to the next call, which it gives to another worker. So here, if that call is
        waiting to be written. One that goes may still answer the call that was written before it said so: nobody waits
        for that.
        """
        said = data[pos : pos + PREFIX + len(_WANTS_OUT)]
        if said[:1] + said[2:6] != _WANTS_OUT_HEAD:
            raise self._out_of_turn(data, pos)
        if len(said) < PREFIX + len(_WANTS_OUT):
            return self._keep(data, pos, PREFIX + len(_WANTS_OUT))
        if said[PREFIX:] != _WANTS_OUT or parse_prefix(said[:PREFIX])[1] & ERROR:
            raise self._out_of_turn(data, pos)
        call = self.call
        if call is not None:
            self._head = b""
            self._body = None
            self._left = 0
            self._refused(call)
        else:
            self._retire()
        return len(said)

    def _out_of_turn(self, data: bytes, pos: int) -> FrameError:
        self._header(data, pos)  # what is no frame at all is told as that
        return self._wrong("a frame that answers no call", data, pos)

    def _keep(self, data: bytes, pos: int, need: int) -> int:
        self._pending.keep(data[pos:], need)
        return 0

    def _header(self, data: bytes, pos: int) -> tuple[int, int, int, int]:
        try:
            fields = parse_prefix(data[pos : pos + PREFIX])
        except FrameError as error:
            error.first = data[pos : pos + FIRST_BYTES]
            raise
        if self._head or self._left:
            raise self._wrong("an answer before the request was written", data, pos)
        if fields[0] != 4 and not fields[1] & ERROR:
            raise self._wrong("options length should be equal 1 (body offset)", data, pos)
        return fields

    def _frame(self, flags: int, bits: int, context: bytes, body: bytes, size: int) -> None:
        """A frame of the answer, of whose *size* bytes of body the first are here."""
        call = self.call
        assert call is not None
        first = not self.streaming
        self._more = bits & STREAM != 0
        replace = first and not self._more and not size and asks_replacement(context, body)
        if call.cancelled:
            if replace:
                self._retire()
            self.streaming = self._more
            if self._more:
                self._stop()
            self._piece(body)
            return
        if replace:
            self._refused(call)
            return
        if bits & PING and not first:
            self._urgent.append(_PONG)
            self._wake()
        self.streaming = self._more
        if not call.answered and not self._more:
            call.length = size
        if context or not call.answered:
            call.answered = True
            call.held = None
            self._deliver(call, True, flags & CODECS, context, body)
        else:
            self._deliver(call, False, 0, b"", body)

    def _piece(self, piece: bytes) -> None:
        """More of the frame under way."""
        call = self.call
        assert call is not None
        if self._error is not None:
            self._error_text(call, piece)
        elif not call.cancelled:
            self._deliver(call, False, 0, b"", piece)
        elif not self._rest and not self._more:
            self._free(call)

    def _deliver(self, call: Call, head: bool, codec: int, context: bytes, body: bytes) -> None:
        """One callback; the last one when the frame is complete and no other follows."""
        more = self._more or self._rest > 0
        if not more:
            call.ended = True
        try:
            if head:
                call.to.context(codec, context, body, more)
            elif body or not more:
                call.to.data(body, more)
        except FrameError:
            call.ended = call.cancelled  # it took no end: `fail_all` tells it
            raise
        if not more:
            self._free(call)

    def _error_frame(self, header: int, length: int, data: bytes, pos: int) -> int:
        size = len(data) - pos
        if size < header:
            return self._keep(data, pos, header)
        self._error = []
        self._rest = length
        if not length:
            self._piece(b"")
        return header

    def _error_text(self, call: Call, piece: bytes) -> None:
        texts = self._error
        assert texts is not None
        kept = sum(map(len, texts))
        texts.append(piece[: max(MAX_TEXT - kept, 0)])
        if self._rest:
            return
        self._error = None
        if self.streaming:  # no longer a soft error: what the stream's sender does next is unknown
            self._retire()
        raw = b"".join(texts)
        call.fail(ApplicationError(raw.decode("utf-8", "replace"), raw))
        self._free(call)

    def _refused(self, call: Call) -> None:
        self._retire()
        self.call = None
        self.load = 0
        call.restart()
        if not self.owner.refused(call):
            call.fail(Refused())
        self.owner.freed(call)

    def _retire(self) -> None:
        self.accepting = False
        self.owner.said({"retire": True})

    def _free(self, call: Call) -> None:
        if self.call is not call:  # given up by `fail_all`, out of a callback
            return
        self.call = None
        self.load = 0
        self.streaming = False
        self._go_on()
        self.owner.freed(call)

    def _go_on(self) -> None:
        if self._paused:
            self._paused = False
            self.owner.resume()

    def _wrong(self, reason: str, data: bytes, pos: int) -> FrameError:
        return FrameError(reason, data[pos : pos + FIRST_BYTES])
