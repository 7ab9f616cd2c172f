"""The worker's end of one mux relay (mux.md), for the SDK: what the server's frames do.

Standard library and msgspec only. Not safe for threads: all calls come from the one that owns the relay.
"""

from __future__ import annotations

from typing import Any, Protocol

from twisted_rr.errors import FrameError, Truncated
from twisted_rr.wire.buffer import Pending
from twisted_rr.wire.control import encode_control, parse_control
from twisted_rr.wire.credit import topped_up
from twisted_rr.wire.frame import CODEC_RAW, FIRST_BYTES, PART, PREFIX, TEXT
from twisted_rr.wire.heartbeat import Heartbeat
from twisted_rr.wire.messages import Assembly
from twisted_rr.wire.mux_frames import (
    IS_CONTEXT,
    IS_CONTROL,
    IS_CREDIT,
    IS_DATA,
    IS_ERROR,
    IS_MESSAGE,
    IS_PING,
    IS_PLAIN,
    IS_PONG,
    LONG,
    PING_FRAME,
    PONG_FRAME,
    STOP_FRAME,
    THREE,
    TWO,
    table_for,
    wrong,
)
from twisted_rr.wire.mux_settings import MAX_CONTEXT, MuxSettings
from twisted_rr.wire.mux_stream import Stream, StreamReceiver
from twisted_rr.wire.mux_worker_out import WorkerOutput

__all__ = ["MuxWorkerEnd", "MuxWorkerOwner", "Stream", "StreamReceiver"]


class MuxWorkerOwner(Protocol):
    """Who holds a `MuxWorkerEnd`."""

    def dirty(self) -> None:
        """There is something to `take`. Said once, until a ``take`` returned nothing."""

    def opened(self, stream: Stream, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A new call. Set ``stream.to`` before returning; refuse it with ``stream.stop()``.

        *body* counts as delivered: `Stream.consumed` it. When the open carries a message, *body* is empty,
        *more* is True and ``to.message`` follows.
        """

    def said(self, message: dict[str, Any]) -> None:
        """A control frame of the server: ``{"stop": True}``, ``{"draining": {"deadline_ms": n}}``."""


class MuxWorkerEnd:
    """One relay's worker side: a pull machine without input or output.

    :ivar streams: open calls by id.
    :ivar stopping: the server said ``stop``: new calls are refused here, without the owner. Once `streams`
        is empty and `take` returns nothing, exit 0.
    :ivar missed: the server did not answer a heartbeat, nor send anything since.
    """

    __slots__ = (
        "owner", "settings", "codec", "streams", "stopping", "missed",
        "_out", "_last", "_window", "_peer_window", "_max_frame", "_table", "_pending", "_beat",
        "_long", "_long_left", "_long_more",
    )  # fmt: skip

    def __init__(self, owner: Any, settings: MuxSettings) -> None:
        self.owner = owner
        self.settings = settings
        self.codec = settings.codec
        self._out = WorkerOutput(owner, settings)
        self.streams: dict[int, Stream] = self._out.streams
        self.stopping = False
        self.missed = False
        self._last = 0
        self._window = settings.window
        self._peer_window = settings.peer_window
        self._max_frame = settings.max_frame
        self._table = table_for(settings.codec, settings.max_frame)
        self._pending = Pending()
        self._beat = Heartbeat()
        self._long: Stream | None = None  # whose long frame is coming
        self._long_left = 0
        self._long_more = False

    def take(self) -> bytes:
        """The next piece to write, about 256 KiB at most, one frame a call in turn; empty when there is none."""
        return b"".join(self._out.take())

    def take_parts(self) -> list[Any]:
        """The same not joined, bytes and views of bytes: large bodies are written from where they are."""
        return self._out.take()

    def control(self, message: dict[str, Any]) -> None:
        """Queue a control frame: ``{"capacity": k}``, ``{"retire": True}``."""
        self._out.relay(encode_control(message))

    def tick(self, now: float) -> None:
        """Heartbeat, about once a second with monotonic seconds; sets `missed`."""
        if "heartbeat" in self.settings.caps:
            if self._beat.tick(now, len(self.streams) > 0):
                self._out.relay(PING_FRAME)
            self.missed = self._beat.missed

    def feed(self, data: bytes) -> None:
        """Bytes from the server, in any pieces.

        :raises FrameError: the server broke the protocol: the worker should exit.
        """
        self._beat.heard = True
        if self._long is not None:
            data = self._go_on(self._long, data)
        elif self._pending.size:
            data = self._pending.join(data)
        if not data:
            return
        pos = self._read(data)
        if pos < len(data):
            self._leave_off(data, pos)

    def eof(self) -> None:
        """The server is gone.

        :raises Truncated: inside a frame.
        """
        if self._pending.size or self._long is not None:
            raise Truncated("the relay ended inside a frame", self._pending.peek()[:FIRST_BYTES])

    def _read(self, data: bytes) -> int:
        """Every complete frame of *data*; returns where the incomplete one starts."""
        known = self._table.known
        pos = 0
        size = len(data)
        while size - pos >= PREFIX:
            fields = known.get(data[pos : pos + PREFIX])
            if fields is None:
                fields = self._table.check(data, pos)
            kind, more, length = fields
            end = pos + 4 * (data[pos] & 15) + length
            if end > size:
                break
            if kind >= IS_CONTROL:
                self._relay_frame(kind, data[end - length : end], data, pos)
                pos = end
                continue
            split, id = TWO.unpack_from(data, pos + PREFIX)
            if id > self._last:
                if IS_CONTEXT <= kind <= IS_MESSAGE:
                    self._open(kind, more, split, id, data, pos, end)
                else:
                    raise wrong(f"call {id}: never opened", data, pos)
            elif not id:
                raise wrong("call 0: ids start at 1", data, pos)
            else:
                stream = self.streams.get(id)
                if stream is not None:  # else the frame crossed the terminal one
                    self._call_frame(stream, kind, more, split, data, pos, end)
            pos = end
        return pos

    def _leave_off(self, data: bytes, pos: int) -> None:
        """Keep the incomplete frame at *pos*, or begin with it if it is the long one of a body."""
        need = self._table.need(data, pos)
        if len(data) - pos < 20:
            need = min(need, 20)
        elif need > LONG + 20:
            split, id = TWO.unpack_from(data, pos + PREFIX)
            kind, more, length = self._table.check(data, pos)
            stream = self.streams.get(id)
            if kind == IS_DATA and stream is not None and len(data) - pos > 20:
                self._begin_long(stream, more, split, length, data, pos)
                return
        self._pending.keep(data[pos:], need)

    def _begin_long(self, stream: Stream, more: bool, split: int, length: int, data: bytes, pos: int) -> None:
        """The first part of a long frame: the application takes it as a piece of its own."""
        self._check_body(stream, more, split, length - split, data, pos)
        self._long = stream
        self._long_more = more
        self._long_left = length - (len(data) - pos - 20)
        self._piece(stream, data[pos + 20 :], True)

    def _go_on(self, stream: Stream, data: bytes) -> bytes:
        """More of *stream*'s long frame; what follows it."""
        size = min(len(data), self._long_left)
        self._long_left -= size
        rest = data[size:]
        if rest:
            data = data[:size]
        more = True
        if not self._long_left:
            self._long = None
            more = self._long_more
            stream.closed = not more
        self._piece(stream, data, more)
        return rest

    def _piece(self, stream: Stream, data: bytes, more: bool) -> None:
        if not stream.cancelled and stream.more:  # else nobody takes it
            stream.delivered(len(data))
            stream.to.data(data, more)

    def _open(self, kind: int, more: bool, split: int, id: int, data: bytes, pos: int, end: int) -> None:
        middle = pos + 20 + split
        size = end - middle
        if not 0 < split <= MAX_CONTEXT or not 0 <= size <= self._max_frame or data[pos + 1] == CODEC_RAW:
            raise wrong(f"call {id}: opened with a context of {split} bytes, {size} of data", data, pos)
        self._last = id
        if self.stopping:
            self._out.put(STOP_FRAME, TWO.pack(0, id), b"")
            return
        if len(self.streams) >= self.settings.streams:
            raise wrong(f"call {id}: more than {self.settings.streams} calls", data, pos)
        stream = Stream(self._out, id, self._window, self._peer_window)
        self.streams[id] = stream
        context = data[pos + 20 : middle]
        if kind == IS_MESSAGE:
            self.owner.opened(stream, self.codec, context, b"", True)
            self._message(stream, more, 0, data, pos, middle, end)
            return
        if size:
            if size > stream.credit_in:
                raise self._beyond(stream, size, data, pos)
            stream.credit_in -= size
            stream.delivered(size)
        if not more:
            stream.closed = True
        self.owner.opened(stream, self.codec, context, data[middle:end], more)

    def _call_frame(
        self, stream: Stream, kind: int, more: bool, split: int, data: bytes, pos: int, end: int
    ) -> None:
        if kind == IS_CREDIT:
            self._credit(stream, split, data, pos)
        elif kind == IS_ERROR:
            raise wrong(f"call {stream.id}: an ERROR from the server", data, pos)
        elif kind <= IS_MESSAGE:
            self._data(stream, kind, more, split, data, pos, end)
        else:
            if end - pos - 20 != split:
                raise wrong(f"call {stream.id}: a STOP with data", data, pos)
            stream.cancel(_reason(data[pos + 20 : end]))

    def _data(
        self, stream: Stream, kind: int, more: bool, split: int, data: bytes, pos: int, end: int
    ) -> None:
        """Body, a message or its part, or the end; with a context only on the end."""
        middle = pos + 20 + split
        size = end - middle
        if kind >= IS_PLAIN:
            self._check_frame(stream, more, split, size, data, pos)
            self._message(stream, more, split, data, pos, middle, end)
            return
        self._check_body(stream, more, split, size, data, pos)
        stream.closed = not more
        if not split:
            self._piece(stream, data[middle:end], more)
            return
        if size:
            self._piece(stream, data[middle:end], True)
        if not stream.cancelled and stream.more:
            stream.to.finished(data[pos + 20 : middle])

    def _check_frame(self, stream: Stream, more: bool, split: int, size: int, data: bytes, pos: int) -> None:
        if stream.closed:
            raise wrong(f"call {stream.id}: a frame after the server's end", data, pos)
        if not self._fits(data[pos + 1] != CODEC_RAW, split, size) or (split and more):
            raise wrong(f"call {stream.id}: a context of {split} bytes, {size} of data", data, pos)

    def _check_body(self, stream: Stream, more: bool, split: int, size: int, data: bytes, pos: int) -> None:
        """A frame of body of *size* bytes: may it come now? Its credit is taken."""
        self._check_frame(stream, more, split, size, data, pos)
        if size > stream.credit_in:
            raise self._beyond(stream, size, data, pos)
        stream.credit_in -= size
        if stream.assembly is not None and not stream.cancelled and stream.more:
            raise wrong(f"call {stream.id}: other data between the parts of a message", data, pos)

    def _message(
        self, stream: Stream, more: bool, split: int, data: bytes, pos: int, middle: int, end: int
    ) -> None:
        size = end - middle
        bits = data[pos + 10]
        price = size
        if not size and not bits & PART:
            price = 1
        if price > stream.credit_in:
            raise self._beyond(stream, price, data, pos)
        stream.credit_in -= price
        stream.closed = not more
        if stream.cancelled or not stream.more:
            return
        text = bits & TEXT != 0
        assembly = stream.assembly
        if assembly is not None and assembly.text != text:
            raise wrong(f"call {stream.id}: a message that is text in one part only", data, pos)
        if (assembly.size if assembly else 0) + size > self.settings.max_message:
            stream.refuse_message(self.settings.max_message)
            return
        if assembly is None and not bits & PART:
            stream.delivered(price)
            whole = data[middle:end]
        else:
            if assembly is None:
                assembly = stream.assembly = Assembly(text)
            assembly.add(data[middle:end])
            if bits & PART:
                stream.part(size)
                return
            stream.assembly = None
            stream.assembled(assembly.size, size)
            whole = assembly.whole()
        stream.to.message(whole, text, more or split > 0)
        if split and not stream.cancelled and stream.more:
            stream.to.finished(data[pos + 20 : middle])

    def _credit(self, stream: Stream, split: int, data: bytes, pos: int) -> None:
        if split:
            raise wrong(f"call {stream.id}: a CREDIT with a context", data, pos)
        grant = THREE.unpack_from(data, pos + PREFIX)[2]
        try:
            stream.credit_out = topped_up(stream.credit_out, grant)
        except FrameError as error:
            raise wrong(f"call {stream.id}: {error.reason}", data, pos) from None
        if not stream.active and stream.ready():
            self._out.activate(stream)

    def _relay_frame(self, kind: int, payload: bytes, data: bytes, pos: int) -> None:
        if kind == IS_PING:
            self._out.relay(PONG_FRAME)
        elif kind == IS_CONTROL:
            message = parse_control(payload)
            if message.get("stop"):
                self.stopping = True
            self.owner.said(message)
        elif kind != IS_PONG:
            raise wrong("an ERROR of the relay from the server", data, pos)

    def _fits(self, coded: bool, split: int, size: int) -> bool:
        """Whether context and data are what the codec bits say, and within their limits."""
        return (0 < split <= MAX_CONTEXT if coded else split == 0) and 0 <= size <= self._max_frame

    def _beyond(self, stream: Stream, size: int, data: bytes, pos: int) -> FrameError:
        return wrong(f"call {stream.id}: {size} bytes beyond a credit of {stream.credit_in}", data, pos)


def _reason(context: bytes) -> str:
    """The reason in a STOP's context; empty when there is none."""
    if not context:
        return ""
    reason = parse_control(context).get("reason", "")
    return reason if isinstance(reason, str) else ""
