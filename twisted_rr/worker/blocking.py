"""A relay that carries one call at a time, read and written by the thread that runs the application.

No second thread and no event loop: between its calls the worker sleeps in poll(), during a call the
relay is not read, except for a STOP before each piece of a stream.
"""

from __future__ import annotations

import os
import select
from typing import Any

from twisted_rr.errors import FrameError, Truncated
from twisted_rr.wire import frame
from twisted_rr.wire.control import encode_pid_reply, parse_control
from twisted_rr.wire.mux_settings import MAX_ERROR
from twisted_rr.wire.payload import join, split
from twisted_rr.wire.reader import Frame, FrameReader
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.signals import Waker
from twisted_rr.worker.single import MAX_PAYLOAD, ask_for_another

_READ = 65536
_PIECE = 1 << 20


class BlockingRelay:
    """Frames of a one-call relay, one after the other.

    *rest* was read with the handshake.

    :ivar stopping: no further call will be taken: a stop frame, SIGTERM or the end of the relay came.
    """

    def __init__(self, relay: Relay, waker: Waker, rest: bytes) -> None:
        relay.set_blocking(True)
        self._relay = relay
        self._waker = waker
        self._reader = FrameReader(MAX_PAYLOAD)
        self._frames: list[Frame] = list(reversed(self._reader.feed(rest)))  # the next one last
        self._poll = select.poll()
        self._poll.register(relay.reader, select.POLLIN)
        self._poll.register(waker.fd, select.POLLIN)
        self.stopping = False
        self._unheard = False  # it goes, and the server may not know
        waker.on_terminate(self._terminated)

    def _terminated(self) -> None:
        self._unheard = self._unheard or not self.stopping
        self.stopping = True

    def call(self) -> tuple[int, bytes, bytes] | None:
        """Wait for the next call: ``(codec bits, context, body)``, or None when there will be none.

        A repeated handshake is answered on the way; STOP and PONG are those of a stream that is over.
            Raises FrameError.
        """
        while not self.stopping:
            if not self._frames:
                data = self._wait()
                if not data:
                    break
                call = self._reader.call(data)
                if call is not None:
                    return call
                self._feed(data)
                continue
            got = self._frames.pop()
            if got.flags & frame.CONTROL:
                self.control(parse_control(got.payload))
            elif not got.bits & (frame.STOP | frame.PONG):
                return (got.flags & frame.CODECS, *split(got))
        self.stopping = True
        if self._unheard:
            self._unheard = False
            self._retire()
        return None

    def _retire(self) -> None:
        """Give back the next call, which may be on its way."""
        try:
            self.write(ask_for_another())
        except ConnectionError:
            return  # the server is no more

    def control(self, message: dict[str, Any]) -> None:
        """Act on a control frame: answer a pid request, note a stop."""
        if message.get("stop"):
            self.stopping = True
        elif "pid" in message:
            self.write(encode_pid_reply(os.getpid()))

    def _wait(self) -> bytes:
        """The next bytes of the server; empty at the end. Woken by those, and by the waker at SIGTERM."""
        while True:
            readable = False
            for fd, _ in self._poll.poll():
                if fd == self._waker.fd:
                    self._waker.clear()
                    if self.stopping:
                        return b""
                else:
                    readable = True
            if readable:
                return self._read()

    def _read(self) -> bytes:
        try:
            data = os.read(self._relay.reader, _READ)
        except ConnectionError:
            data = b""
        if not data:
            try:
                self._reader.eof()
            except Truncated:
                pass  # the server died while it wrote: there is nobody to tell
        return data

    def _feed(self, data: bytes) -> None:
        self._frames = self._reader.feed(data)
        self._frames.reverse()

    def interrupted(self) -> bool:
        """Whether the server wants the stream under way to end. Never waits."""
        if not self._frames:
            ready = select.select([self._relay.reader], [], [], 0)[0]
            if ready:
                data = self._read()
                if not data:
                    self.stopping = True
                    return True
                self._feed(data)
        while self._frames:
            got = self._frames.pop()
            if got.flags & frame.CONTROL:
                self.control(parse_control(got.payload))
                if self.stopping:
                    return True
            elif got.bits & frame.STOP:
                return True
            elif not got.bits & frame.PONG:
                raise FrameError("a second call on a relay that carries one at a time", got.payload)
        return False

    def write(self, data: bytes) -> None:
        """Write all of *data*, waiting as long as the server does not read. Raises ConnectionError."""
        if len(data) <= _PIECE:
            count = os.write(self._relay.writer, data)
            if count == len(data):
                return
            data = data[count:]
        view = memoryview(data)
        while view:
            view = view[os.write(self._relay.writer, view[:_PIECE]) :]


class BlockingCall:
    """One call of a `BlockingRelay`: a `wsgi.Channel` whose request has come whole.

    :ivar gone: the server sent STOP, or is no more.
    """

    ending = False  # who has one call at a time is not told of a drain

    __slots__ = ("_codec", "_ended", "_relay", "_streaming", "gone")

    def __init__(self, relay: BlockingRelay, codec: int) -> None:
        self._relay = relay
        self._codec = codec
        self._streaming = False
        self._ended = False
        self.gone = False

    def read(self) -> bytes:
        """Nothing: the request came whole."""
        return b""

    def send(self, context: bytes, data: bytes, more: bool) -> None:
        """One frame: alone, or one of a stream. Between those of a stream STOP is looked for."""
        if self.gone or self._ended:
            if not more:
                self.stop()  # nobody gets it, but the server waits for the end
            return
        if self._streaming and more and self._relay.interrupted():
            self.gone = True
            return
        self._streaming = more
        self._ended = not more
        self._write(join(self._codec, frame.STREAM if more else 0, context, data))

    def error(self, text: str) -> None:
        """An ERROR frame has no options (protocol.md 1.4)."""
        if not self._ended:
            self._ended = True
            self._write(frame.encode(frame.ERROR, 0, (), text.encode("utf-8", "replace")[:MAX_ERROR]))

    def stop(self) -> None:
        """The empty last frame of a stream that the server has given up."""
        if not self._ended:
            self._ended = True
            self._write(join(self._codec, 0, b"", b""))

    def _write(self, data: bytes) -> None:
        try:
            self._relay.write(data)
        except ConnectionError:
            self.gone = self._ended = True
            self._relay.stopping = True
