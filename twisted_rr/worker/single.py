"""The worker's end of a relay that carries one call at a time (protocol.md 3.4, 3.8, 3.12), sans-io.

It has the shape of `wire.mux.MuxWorkerEnd`, so that what runs an application needs not know which
of the two serves it. Reading and writing the relay is its owner's affair.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, Protocol

from twisted_rr.errors import FrameError
from twisted_rr.wire import frame
from twisted_rr.wire.control import parse_control
from twisted_rr.wire.mux_settings import MAX_ERROR
from twisted_rr.wire.payload import STOP_ANSWER, join, split
from twisted_rr.wire.reader import Frame, FrameReader

MAX_PAYLOAD: Final = frame.MAX_PAYLOAD
_HIGH: Final = 262144


def ask_for_another() -> bytes:
    """The answer to a call that has to be run by another worker; who gives it is replaced."""
    return join(0, 0, STOP_ANSWER, b"")


class Owner(Protocol):
    """What an end tells."""

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A call came in; sets ``stream.to``."""

    def said(self, message: dict[str, Any]) -> None:
        """A control frame of the server."""

    def dirty(self) -> None:
        """There is something to take."""


class SingleStream:
    """One call. ``to`` gets ``cancelled(reason)`` and ``writable()``.

    :ivar codec: codec bits of the request, which the answer repeats.
    """

    __slots__ = ("_end", "_streaming", "cancelled", "codec", "ended", "held", "to")

    def __init__(self, end: SingleWorkerEnd, codec: int) -> None:
        self._end = end
        self._streaming = False
        self.codec = codec
        self.ended = False
        self.held = False
        self.cancelled = False
        self.to: Any = None

    def send(self, context: bytes, data: bytes, more: bool) -> bool:
        """One part of the answer; *more* False ends it. False when the source should wait for ``writable()``."""
        if self.ended:
            return True
        self._streaming = more
        bits = frame.STREAM if more else 0
        self._finish_unless(more)
        room = self._end.put(join(self.codec, bits, context, data))
        self.held = more and not room
        return not self.held

    def error(self, text: str) -> None:
        """The application failed; before the first frame the worker is used again (protocol.md 3.4)."""
        if not self.ended:
            self._finish_unless(False)
            self._end.put(frame.encode(frame.ERROR, 0, (), text.encode("utf-8", "replace")[:MAX_ERROR]))

    def stop(self) -> None:
        """End without an answer: a cancelled stream by an empty last frame, for which the server drains.

        A call not begun yet is given back: the server runs it on another worker and replaces this one.
        """
        if self.ended:
            return
        last = join(self.codec, 0, b"", b"") if self._streaming else ask_for_another()
        self._finish_unless(False)
        self._end.put(last)

    def consumed(self, count: int) -> None:
        """Nothing: a request comes whole."""

    def interrupted(self) -> None:
        """The server sent STOP: it means this call only when this call streams (protocol.md 3.8)."""
        if self._streaming and not self.cancelled:
            self.cancelled = True
            self.stop()  # at once: until then the server has no use for this worker
            self.to.cancelled("client")

    def _finish_unless(self, more: bool) -> None:
        if not more:
            self.ended = True
            self._streaming = False
            self._end.streams.clear()


class SingleWorkerEnd:
    """Frames of a one-call relay in and out.

    :ivar streams: the open call, by the id 1.
    :ivar stopping: a new call is given back.
    """

    __slots__ = ("_dirty", "_out", "_owner", "_queued", "_reader", "stopping", "streams")

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._reader = FrameReader(MAX_PAYLOAD)
        self._out: deque[bytes] = deque()
        self._queued = 0
        self._dirty = False
        self.streams: dict[int, SingleStream] = {}
        self.stopping = False

    def eof(self) -> None:
        """The server is gone. Raises Truncated inside a frame."""
        self._reader.eof()

    def feed(self, data: bytes) -> None:
        """Bytes of the server. Raises FrameError: the relay is lost."""
        for got in self._reader.feed(data):
            if got.flags & frame.CONTROL:
                self._owner.said(parse_control(got.payload))
            elif got.bits & frame.STOP:
                for stream in list(self.streams.values()):
                    stream.interrupted()
            elif not got.bits & frame.PONG:
                self._open(got)

    def _open(self, got: Frame) -> None:
        context, body = split(got)
        if self.streams:
            raise FrameError("a second call on a relay that carries one at a time", got.payload)
        stream = self.streams[1] = SingleStream(self, got.flags & frame.CODECS)
        if self.stopping:
            stream.stop()
            return
        self._owner.opened(stream, stream.codec, context, body, False)

    def retire(self) -> None:
        """Between two calls: give back the next one, which may be on its way."""
        self.put(ask_for_another())

    def put(self, data: bytes) -> bool:
        """Queue a whole frame; False when much is queued."""
        self._out.append(data)
        self._queued += len(data)
        if not self._dirty:
            self._dirty = True
            self._owner.dirty()
        return self._queued <= _HIGH

    def take_parts(self) -> list[Any]:
        """The next piece to write, for `loop`; empty when there is none."""
        data = self.take()
        return [data] if data else []

    def take(self) -> bytes:
        """The next piece to write, b"" when there is none."""
        if not self._out:
            self._dirty = False
            return b""
        data = self._out.popleft()
        self._queued -= len(data)
        if self._queued < _HIGH // 2:
            for stream in list(self.streams.values()):
                if stream.held:
                    stream.held = False
                    stream.to.writable()
        return data
