"""Owners and receivers that write down what an end tells them, and ways to feed bytes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from twisted_rr.wire.call import Call
from twisted_rr.wire.frame import encode, parse_prefix
from twisted_rr.wire.mux_server import MuxServerEnd
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.mux_worker import MuxWorkerEnd, Stream
from twisted_rr.wire.single import SingleServerEnd

RAW, JSON, MSGPACK, ERROR = 0x04, 0x08, 0x10, 0x40
STREAM, STOP, PING, PONG, CREDIT, MESSAGE, PART, TEXT = 1, 2, 4, 8, 16, 32, 64, 128


def call_frame(id: int, context: bytes, data: bytes, bits: int = 0, flags: int | None = None) -> bytes:
    """A frame of a call; msgpack when it has a context."""
    if flags is None:
        flags = MSGPACK if context else RAW
    return encode(flags, bits, (len(context), id), context + data)


def credit_frame(id: int, grant: int) -> bytes:
    return encode(RAW, CREDIT, (0, id, grant), b"")


#: What the other side may send about a call, for random sequences: word -> (id, data) -> bytes.
SAID: dict[str, Any] = {
    "open": lambda id, data: call_frame(id, b"context", data),
    "more": lambda id, data: call_frame(id, b"context", data, STREAM),
    "data": lambda id, data: call_frame(id, b"", data, STREAM),
    "end": lambda id, data: call_frame(id, b"", data),
    "trailers": lambda id, data: call_frame(id, b"t", data),
    "message": lambda id, data: call_frame(id, b"", data, STREAM | MESSAGE),
    "part": lambda id, data: call_frame(id, b"", data, STREAM | MESSAGE | PART),
    "error": lambda id, data: call_frame(id, b"", data, 0, ERROR | RAW),
    "stop": lambda id, data: call_frame(id, b"", b"", STOP),
    "credit": lambda id, data: credit_frame(id, 1 + len(data)),
    "ping": lambda id, data: encode(0, PING, (), b""),
    "junk": lambda id, data: data,
}


def steps(*words: str) -> Any:
    """A strategy: at most twelve steps of these *words* on three calls, and as bytes."""
    step = st.tuples(st.integers(1, 3), st.sampled_from(words), st.binary(max_size=30))
    return st.lists(step, max_size=12).map(
        lambda steps: b"".join(SAID[word](id, data) for id, word, data in steps)
    )


SIZES = st.lists(st.integers(1, 50), min_size=1, max_size=5)
"""For `in_chunks`."""


def parse_all(data: bytes) -> list[tuple[int, int, tuple[int, ...], bytes]]:
    """``(flags, bits, options, payload)`` of every frame in *data*."""
    out = []
    while data:
        hl, flags, bits, length = parse_prefix(data[:12])
        words = tuple(int.from_bytes(data[i : i + 4], "little") for i in range(12, 4 * hl, 4))
        end = 4 * hl + length
        assert len(data) >= end
        out.append((flags, bits, words, data[4 * hl : end]))
        data = data[end:]
    return out


def drain(end: Any) -> bytes:
    """Everything that *end* has to send."""
    pieces = []
    while piece := end.take():
        pieces.append(piece)
    return b"".join(pieces)


def frames(end: Any) -> list[tuple[int, int, tuple[int, ...], bytes]]:
    return parse_all(drain(end))


def in_chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    """*data* cut to pieces of *sizes*, used in turn."""
    out = []
    pos = turn = 0
    while pos < len(data):
        size = sizes[turn % len(sizes)] if sizes else len(data)
        out.append(data[pos : pos + size])
        pos += size
        turn += 1
    return out


class Receiver:
    """An `ICallReceiver` that keeps what it hears."""

    def __init__(self, log: list[Any] | None = None, name: Any = None) -> None:
        self.events: list[Any] = []
        self.log = log
        self.name = name
        self.call: Call | None = None

    def _add(self, *event: Any) -> None:
        self.events.append(event)
        if self.log is not None:
            self.log.append((self.name, *event))

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        self._add("context", codec, context, body, more)

    def data(self, body: bytes, more: bool) -> None:
        self._add("data", body, more)

    def message(self, body: bytes, text: bool, more: bool) -> None:
        self._add("message", body, text, more)

    def messages(self, run: list[bytes]) -> None:
        self._add("messages", run)

    def failed(self, error: Exception) -> None:
        self._add("failed", type(error).__name__, str(error))

    def writable(self) -> None:
        self._add("writable")


class ServerOwner:
    """Owns a `MuxServerEnd` or a `SingleServerEnd`."""

    def __init__(self) -> None:
        self.dirties = self.pushes = 0
        self.free: list[Call] = []
        self.asked: list[Call] = []
        self.elsewhere = False
        self.messages: list[dict[str, Any]] = []
        self.reading: list[str] = []

    def dirty(self) -> None:
        self.dirties += 1

    def push(self) -> None:
        self.pushes += 1

    def freed(self, call: Call) -> None:
        self.free.append(call)

    def refused(self, call: Call) -> bool:
        self.asked.append(call)
        return self.elsewhere

    def said(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def pause(self) -> None:
        self.reading.append("pause")

    def resume(self) -> None:
        self.reading.append("resume")


class MuxServer:
    """A server end with its owner, and calls opened in one line."""

    def __init__(self, **settings: Any) -> None:
        self.owner = ServerOwner()
        self.end = MuxServerEnd(self.owner, MuxSettings(**settings))
        self.log: list[Any] = []

    def open(self, context: bytes = b"ctx", body: bytes = b"", more: bool = False) -> Call:
        to = Receiver(self.log)
        call = Call(None, to, self.end)
        to.call = call
        self.end.open(call, context, body, more)
        return call

    def opened(self, context: bytes = b"ctx", body: bytes = b"", more: bool = False) -> Call:
        """The same, and its open was handed over."""
        call = self.open(context, body, more)
        drain(self.end)
        to_name(call)
        return call


def to_name(call: Call) -> None:
    call.to.name = call.id


class WorkerStream:
    """A `StreamReceiver` that keeps what it hears."""

    def __init__(self, stream: Stream, log: list[Any]) -> None:
        self.stream = stream
        self.log = log
        self.events: list[Any] = []

    def _add(self, *event: Any) -> None:
        self.events.append(event)
        self.log.append((self.stream.id, *event))

    def data(self, body: bytes, more: bool) -> None:
        self._add("data", body, more)

    def message(self, body: bytes, text: bool, more: bool) -> None:
        self._add("message", body, text, more)

    def finished(self, context: bytes) -> None:
        self._add("finished", context)

    def cancelled(self, reason: str) -> None:
        self._add("cancelled", reason)

    def writable(self) -> None:
        self._add("writable")


class MuxWorker:
    """A worker end with its owner, which keeps the streams."""

    def __init__(self, **settings: Any) -> None:
        self.dirties = 0
        self.log: list[Any] = []
        self.streams: dict[int, Stream] = {}
        self.messages: list[dict[str, Any]] = []
        self.end = MuxWorkerEnd(self, MuxSettings(**settings))

    def dirty(self) -> None:
        self.dirties += 1

    def opened(self, stream: Stream, codec: int, context: bytes, body: bytes, more: bool) -> None:
        self.streams[stream.id] = stream
        stream.to = WorkerStream(stream, self.log)
        self.log.append((stream.id, "opened", codec, context, body, more))

    def said(self, message: dict[str, Any]) -> None:
        self.messages.append(message)

    def accept(self, id: int = 1, body: bytes = b"", bits: int = 0) -> Stream:
        """A call that the server opened."""
        self.end.feed(call_frame(id, b"ctx", body, bits))
        return self.streams[id]


class Single:
    """A one-call end with its owner."""

    def __init__(self, max_context: int = 1048576) -> None:
        self.owner = ServerOwner()
        self.end = SingleServerEnd(self.owner, max_context)

    def start(self, context: bytes = b"ctx", body: Any = b"", length: int | None = None) -> Call:
        to = Receiver()
        call = Call(None, to, self.end)
        self.end.start(call, 0x80, context, body, len(body) if length is None else length)
        return call

    def asked(self, context: bytes = b"ctx", body: Any = b"", length: int | None = None) -> Call:
        """The same, and the request was handed over."""
        call = self.start(context, body, length)
        drain(self.end)
        return call
