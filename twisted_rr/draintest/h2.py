"""A client's end of an HTTP/2 connection that carries gRPC calls, and writes every GOAWAY down.

It knows as much of HTTP/2 as a truthful witness needs: whoever wants it to ignore a GOAWAY, a PING or its own windows
says so. It never compresses, and leaves out priorities and pushes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct
import time

from twisted_rr.draintest.records import Channel
from twisted_rr.draintest.wire import Address, Ended, Wire
from twisted_rr.http2 import frames
from twisted_rr.http2.blocks import encode
from twisted_rr.http2.codes import CANCEL, NO_ERROR, REFUSED_STREAM, ConnectionFault
from twisted_rr.http2.hpack import Decoder

_GOAWAY = struct.Struct(">II")
_PREFIX = struct.Struct(">BI")
_LIST = 1 << 20

#: As much as there can be: nothing is held up by a window, unless a client wants that.
WIDE = 2**31 - 1

UNAVAILABLE, INTERNAL, DEADLINE_EXCEEDED = 14, 13, 4


class Stream:
    """One call.

    :ivar number: the stream's.
    :ivar began: when the first byte of an answer came.
    :ivar status: gRPC's, None as long as none came; *text* is what it says.
    :ivar messages: that came, whole.
    :ivar reset: the code of the server's RST_STREAM.
    :ivar refused: the server said that it did and will do nothing for it.
    :ivar done: it is over, one way or another; `over` waits for that.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.began: float | None = None
        self.status: int | None = None
        self.text = ""
        self.messages: list[bytes] = []
        self.reset: int | None = None
        self.refused = False
        self.done = False
        self._data = b""
        self._news = asyncio.Event()

    async def over(self) -> None:
        """Wait for its end."""
        while not self.done:
            await self._wait()

    async def first(self) -> bool:
        """Wait for a message; False when it ended without one."""
        while not self.messages and not self.done:
            await self._wait()
        return bool(self.messages)

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()

    def told(self) -> None:
        """Something came: whoever waits looks again."""
        self._news.set()

    def end(self) -> None:
        """Nothing more will come."""
        self.done = True
        self._news.set()

    def data(self, piece: bytes) -> list[bytes]:
        """The messages that *piece* completes."""
        self._data += piece
        found = []
        while len(self._data) >= _PREFIX.size:
            size = _PREFIX.size + _PREFIX.unpack_from(self._data)[1]
            if len(self._data) < size:
                break
            found.append(self._data[_PREFIX.size : size])
            self._data = self._data[size:]
        self.messages += found
        return found


class Connection:
    """One connection; every stream that is open when it ends, ends.

    :param record: what it is written down in.
    :param window: of each stream; 0: the server may send no message.
    :param acknowledge: answer PINGs.
    """

    def __init__(self, wire: Wire, record: Channel, window: int, acknowledge: bool) -> None:
        self.record = record
        self.streams: dict[int, Stream] = {}
        self.ended = False
        self._wire = wire
        self._acknowledge = acknowledge
        self._next = 1
        self._decoder = Decoder(_LIST)
        self._block: tuple[int, int, bytes] | None = None
        self._before_ping: list[bytes] = []
        wire.write(
            frames.PREFACE
            + frames.settings([(frames.ENABLE_PUSH, 0), (frames.INITIAL_WINDOW_SIZE, window)])
            + frames.window_update(0, WIDE - 65535)
        )
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def open(
        cls,
        address: Address,
        record: Channel,
        timeout: float = 5.0,
        window: int = WIDE,
        acknowledge: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> Connection:
        """Connect; raises what `Wire.open` does."""
        return cls(await Wire.open(address, timeout, tls=tls), record, window, acknowledge)

    @property
    def leaving(self) -> bool:
        """Whether a client has to take its next call elsewhere."""
        return self.ended or bool(self.record.goaways)

    @property
    def how(self) -> str:
        """How it ended: ``fin`` or ``reset``."""
        return "reset" if self._wire.reset else "fin"

    def call(self, path: str, message: bytes | None = b"") -> Stream:
        """Begin a call; *message* None: `send` brings it later."""
        stream = Stream(self._next)
        self._next += 2
        self.streams[stream.number] = stream
        self.record.streams[stream.number] = None
        block = _head(path, f"{self.record.address[0]}:{self.record.address[1]}")
        self._wire.write(frames.frame(frames.HEADERS, frames.END_HEADERS, stream.number, block))
        if message is not None:
            self.send(stream, message)
        return stream

    def send(self, stream: Stream, message: bytes, end: bool = True) -> None:
        """One message of the call."""
        flags = frames.END_STREAM if end else 0
        self._wire.write(
            frames.frame(frames.DATA, flags, stream.number, _PREFIX.pack(0, len(message)) + message)
        )

    def cancel(self, stream: Stream) -> None:
        """Give it up."""
        self._wire.write(frames.rst_stream(stream.number, CANCEL))
        self.streams.pop(stream.number, None)
        stream.end()

    def pause(self) -> None:
        """Read no more from the socket."""
        self._wire.pause()

    async def closed(self) -> None:
        """Wait for the server's end of it."""
        await asyncio.shield(self._reader)

    def close(self) -> None:
        """Leave, with a GOAWAY as clients send it."""
        if not self.ended:
            self._wire.write(frames.goaway(0, NO_ERROR))
        self._reader.cancel()
        self._end()
        self._wire.close()

    # --------------------------------------------------------------------------------- reading

    async def _read(self) -> None:
        data = b""
        with contextlib.suppress(Ended, ConnectionFault):
            while piece := await self._wire.piece():
                data = self._frames(data + piece)
        self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.record.ended = time.monotonic()
        self.record.ending = self.how if self._wire.eof else "left"
        for stream in list(self.streams.values()):
            stream.end()
        self.streams.clear()

    def _frames(self, data: bytes) -> bytes:
        """Take whole frames; what is left of *data*."""
        at = 0
        while len(data) - at >= frames.HEADER_SIZE:
            upper, lower, kind, flags, number = frames.HEADER.unpack_from(data, at)
            start = at + frames.HEADER_SIZE
            end = start + (upper << 8 | lower)
            if len(data) < end:
                break
            self._frame(kind, flags, number & frames.MAX_ID, data[start:end])
            at = end
        return data[at:]

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if kind == frames.DATA:
            self._data(number, flags, payload)
        elif kind in (frames.HEADERS, frames.CONTINUATION):
            self._headers(kind, number, flags, payload)
        elif kind == frames.RST_STREAM:
            self._reset(number, frames.U32.unpack(payload)[0])
        elif kind == frames.GOAWAY:
            self._goaway(*_GOAWAY.unpack_from(payload))
        elif kind == frames.SETTINGS and not flags & frames.ACK:
            self._wire.write(frames.SETTINGS_ACK)
        elif kind == frames.PING and not flags & frames.ACK and self._acknowledge:
            self._wire.write(frames.ping(payload, ack=True))

    def _data(self, number: int, flags: int, payload: bytes) -> None:
        stream = self._begun(number)
        if stream is None:
            return
        for message in stream.data(payload):
            self.record.said.append((time.monotonic(), "message", number, message))
        if payload:
            self._wire.write(frames.window_update(0, len(payload)))
        if flags & frames.END_STREAM:
            self._finish(stream)
        stream.told()

    def _headers(self, kind: int, number: int, flags: int, payload: bytes) -> None:
        if kind == frames.HEADERS:
            if flags & frames.PADDED:
                payload = payload[1 : -payload[0] or None]
            self._block = (number, flags, payload[5:] if flags & frames.HAS_PRIORITY else payload)
        elif self._block is not None:
            self._block = (number, self._block[1], self._block[2] + payload)
        if not flags & frames.END_HEADERS or self._block is None:
            return
        number, flags, block = self._block
        self._block = None
        fields = dict(field.pair for field in self._decoder.decode(block))
        stream = self._begun(number)
        if stream is None:
            return
        if b"grpc-status" in fields:
            stream.status = int(fields[b"grpc-status"])
            stream.text = fields.get(b"grpc-message", b"").decode("latin-1")
        if flags & frames.END_STREAM:
            self._finish(stream)
        stream.told()

    def _begun(self, number: int) -> Stream | None:
        if any(number > last for _, last, _ in self.record.goaways):
            # It was told that nothing was done for it: an answer makes that a lie.
            self.record.answered_beyond.append(number)
        stream = self.streams.get(number)
        if stream is not None and stream.began is None:
            stream.began = time.monotonic()
        return stream

    def _finish(self, stream: Stream) -> None:
        self.streams.pop(stream.number, None)
        self.record.said.append((time.monotonic(), "end", stream.number, stream.status))
        stream.end()

    def _reset(self, number: int, code: int) -> None:
        stream = self.streams.pop(number, None)
        if stream is not None:
            stream.reset = code
            stream.refused = code == REFUSED_STREAM
            stream.end()

    def _goaway(self, last: int, code: int) -> None:
        last &= frames.MAX_ID
        now = time.monotonic()
        self.record.goaways.append((now, last, code))
        self.record.said.append((now, "goaway", 0, last))
        for stream in [each for each in self.streams.values() if each.number > last]:
            stream.refused = True
            self.streams.pop(stream.number)
            stream.end()
        if self.record.on_goaway is not None:
            # Before its PING is answered: that is what crossing a GOAWAY means.
            self.record.on_goaway(len(self.record.goaways))


def _head(path: str, authority: str) -> bytes:
    """A header block of literals: no table of the server's takes any of it up."""
    fields = (
        (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", authority),
        ("content-type", "application/grpc"), ("te", "trailers"), ("user-agent", "twisted-rr drain-test"),
    )  # fmt: skip
    return encode((name.encode(), value.encode()) for name, value in fields)
