"""What the server's end of a mux relay sends, and in which order (mux.md 4).

Reading the worker's frames is mux_server.py's subject.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import msgspec

from twisted_rr.wire.call import Call
from twisted_rr.wire.flow import Piece
from twisted_rr.wire.frame import CODEC_JSON, MESSAGE, STOP, STREAM, prefix
from twisted_rr.wire.mux_frames import CALL_WORDS, CREDIT_FRAME, PIECE, STOP_FRAME, THREE, TWO, gathered
from twisted_rr.wire.mux_settings import MuxSettings

_STOPS: Final = {
    reason: msgspec.json.encode({"reason": reason}) for reason in ("client", "deadline", "drain", "timeout")
}


class ServerOutput:
    """The queues of one relay: of the relay itself, CREDIT and STOP, opens, and the ring of calls with data.

    :ivar last: the highest id given so far.
    """

    __slots__ = (
        "last", "_owner", "_calls", "_codec", "_max_frame", "_whole", "_dirty",
        "_relay", "_grants", "_stops", "_opens", "_ring", "_wakes",
    )  # fmt: skip

    def __init__(self, owner: Any, calls: dict[int, Call], settings: MuxSettings) -> None:
        self.last = 0
        self._owner = owner
        self._calls = calls
        self._codec = settings.codec
        self._max_frame = settings.max_frame
        self._whole = min(settings.max_frame, settings.peer_window)
        self._dirty = False
        self._relay: list[bytes] = []
        self._grants: list[Call] = []
        self._stops: list[tuple[Call, str]] = []
        self._opens: deque[tuple[Call, bytes, bytes]] = deque()
        self._ring: deque[Call] = deque()
        self._wakes: list[Call] = []

    def open(self, call: Call, context: bytes, body: bytes) -> None:
        """Queue the open of *call*, which gets its id when the frame is handed over."""
        self._opens.append((call, context, body))
        if not self._dirty:
            self._dirty = True
            self._owner.dirty()

    def activate(self, call: Call) -> None:
        """*call* can send: it takes its turn from now on."""
        call.active = True
        self._ring.append(call)
        self._wake()

    def grant(self, call: Call) -> None:
        """Give *call* the credit it has taken, with the next piece."""
        call.granting = True
        self._grants.append(call)
        self._wake()

    def stop(self, call: Call, reason: str) -> None:
        """Tell the worker to stop *call*; its open was handed over before."""
        self._stops.append((call, reason))
        self._wake()

    def relay(self, frame: bytes) -> None:
        """Send a frame of the relay, before all others."""
        self._relay.append(frame)
        self._wake()

    def waiting(self) -> list[Call]:
        """The calls whose open was not handed over."""
        return [entry[0] for entry in self._opens]

    def forget_opens(self) -> None:
        """What `waiting` told is opened elsewhere."""
        self._opens.clear()

    def clear(self) -> None:
        """The relay is lost."""
        self._relay.clear()
        self._grants.clear()
        self._stops.clear()
        self._opens.clear()
        self._ring.clear()
        self._wakes.clear()

    def take(self) -> list[Any]:
        """The next piece, about 256 KiB at most, as bytes and views of bytes; empty when there is none."""
        out: list[Any] = []
        size = 0
        if self._relay or self._grants or self._stops:
            self._take_urgent(out)
        opens = self._opens
        while opens and size < PIECE:
            call, context, body = opens.popleft()
            if call.ended:  # cancelled before it had an id
                continue
            self.last = call.id = self.last + 1
            self._calls[call.id] = call
            if call.queue and not call.more and not body and len(call.queue) == 1:
                taken = self._open_unary(call, context, out)
                if taken:
                    size += taken
                    continue
            if call.more or call.queue or call.trailer is not None or len(body) > self._whole:
                size += self._open_long(call, context, body, out)
                continue
            call.sent_end = True
            length = len(context) + len(body)
            out.append(prefix(CALL_WORDS, self._codec, 0, length))
            out.append(TWO.pack(len(context), call.id))
            out.append(context)
            if body:
                out.append(body)
            size += 20 + length
        if self._ring:
            size = self._take_ring(out, size)
        if not out:
            self._dirty = False
            return out
        if self._wakes:
            self._wake_sources()
        return gathered(out, size)

    def _take_urgent(self, out: list[Any]) -> None:
        out.extend(self._relay)
        self._relay.clear()
        for call in self._grants:
            call.granting = False
            # A terminal frame or a cancel may have come since: no CREDIT goes to a direction that ended.
            if call.id in self._calls and not call.cancelled:
                out.append(CREDIT_FRAME)
                out.append(THREE.pack(0, call.id, call.taken))
                call.credit_in += call.taken
                call.taken = 0
        self._grants.clear()
        for call, reason in self._stops:
            if call.id in self._calls:
                context = _STOPS.get(reason, b"")
                head = prefix(CALL_WORDS, CODEC_JSON, STOP, len(context)) if context else STOP_FRAME
                out.append(head + TWO.pack(len(context), call.id) + context)
        self._stops.clear()

    def _open_unary(self, call: Call, context: bytes, out: list[Any]) -> int:
        """An open with the one message there is, the call of most gRPC methods; 0 when it is something else."""
        first = call.queue[0]
        if not isinstance(first, Piece):
            return 0
        message = first.data
        if call.trailer is not None or first.text or len(message) > self._whole:
            return 0
        call.queue.popleft()
        call.queued = 0
        call.credit_out -= len(message) or 1
        call.sent_end = True
        call.first = first  # it can be run again as long as nothing was answered
        length = len(context) + len(message)
        out.append(prefix(CALL_WORDS, self._codec, MESSAGE, length))
        out.append(TWO.pack(len(context), call.id))
        out.append(context)
        out.append(message)
        return 20 + length

    def _open_long(self, call: Call, context: bytes, body: bytes, out: list[Any]) -> int:
        """An open whose body does not end in it, or that carries a message."""
        rest = body[self._whole :]
        if rest:
            body = body[: self._whole]
            call.queue.appendleft(rest)
            call.queued += len(rest)
            call.held = None
        first = call.queue[0] if call.queue else None
        if not body and isinstance(first, Piece):  # a message rides along with the context
            first.context = context
            size = call.cut(self._codec, self._max_frame, out)
            if call.queue and call.queue[0] is first:  # it takes more than a frame
                call.held = None
            else:
                call.first = first
        else:
            call.credit_out -= len(body)
            out.append(prefix(CALL_WORDS, self._codec, STREAM, len(context) + len(body)))
            out.append(TWO.pack(len(context), call.id))
            out.append(context)
            out.append(body)
            size = 20 + len(context) + len(body)
        if not call.active and call.ready():
            self.activate(call)
        return size

    def _take_ring(self, out: list[Any], size: int) -> int:
        """One frame a call in turn until the piece is full; at least one, so that opens starve nobody.

        Gives the size of the piece, of which *size* bytes were there before.
        """
        ring = self._ring
        while ring:
            call = ring.popleft()
            if self._calls.get(call.id) is not call:  # over, or refused here and placed again
                continue
            call.active = False
            if call.ended or not call.ready():
                continue
            if call.queue or call.trailer is not None:
                call.held = call.first = None
            size += call.cut_run(self._codec, self._max_frame, out)
            if call.ready():
                call.active = True
                ring.append(call)
            if call.full and call.woken():
                self._wakes.append(call)
            if size >= PIECE:
                break
        return size

    def _wake_sources(self) -> None:
        wakes = self._wakes
        self._wakes = []
        for call in wakes:
            if not call.ended:
                call.to.writable()

    def _wake(self) -> None:
        if not self._dirty:
            self._dirty = True
            self._owner.dirty()
