"""Serves calls of a mux relay by threads: one a call, and one that reads the relay.

The main thread is the first of those that run calls, so that with one thread (the default) an
application finds itself where it would be under any other server, and signal handlers run. The
thread that reads also answers the server's heartbeat: a call that takes long is no lack of progress
here, whereas on an event loop (`asgi`) it would be, which is why there the loop answers.

What a call does is not its subject: it is given as a function of a `ThreadCall`.
"""

from __future__ import annotations

import os
import queue
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from twisted_rr.errors import FrameError
from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.mux_worker import MuxWorkerEnd
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.signals import Waker
from twisted_rr.worker.wsgi import Disconnected

_READ = 65536
_LOST_GRACE = 10.0
"""Seconds that open calls get when the server is no more."""


class ThreadCall:
    """One call: the stream's receiver (with the lock held) and a `wsgi.Channel` for the thread that runs it.

    :ivar gone: nobody waits for the answer.
    """

    __slots__ = (
        "_full", "_pieces", "_server", "_stream", "_waiting", "body", "codec", "context", "gone", "more", "uninvited",
    )  # fmt: skip

    def __init__(
        self, server: ThreadServer, stream: Any, codec: int, context: bytes, body: bytes, more: bool
    ) -> None:
        self._server = server
        self._stream = stream
        self._pieces: deque[bytes] = deque()
        self._waiting: threading.Condition | None = None
        self._full = False
        self.codec = codec
        self.context = context
        self.body = body
        self.more = more
        self.gone = False
        self.uninvited: Callable[[], bytes] | None = None

    # ------------------------------------------------------------- for the end, under the lock

    def data(self, body: bytes, more: bool) -> None:
        """A piece of the request's body."""
        if body:
            self._pieces.append(body)
        self.more = more
        self._wake()

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """Messages are taken as bytes."""
        self.data(body, more)

    def finished(self, context: bytes) -> None:
        """The body ended with trailers, for which WSGI has no place."""
        self.data(b"", False)

    def cancelled(self, reason: str) -> None:
        """The call was given up. A thread cannot be stopped: it is told at its next read or send."""
        self.gone = True
        self._pieces.clear()
        self._wake()

    def writable(self) -> None:
        """There is room for more of the answer."""
        self._full = False
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.notify()

    # ------------------------------------------------------------------- for the call's thread

    def read(self) -> bytes:
        """The next piece of the body, empty at its end; blocks. Raises Disconnected."""
        with self._server.lock:
            if self.uninvited is not None:
                self._invite()
            while not self._pieces and self.more and not self.gone:
                self._wait()  # woken by data, finished, cancelled
            if self.gone:
                raise Disconnected("the client has gone")
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if self.more:
                self._stream.consumed(len(piece))
                self._server.flush()
            return piece

    def _invite(self) -> None:
        """The first read asks for the body, where the client waits to be asked (RFC 9110 10.1.1)."""
        head, self.uninvited = self.uninvited, None
        if head is not None and self.more and not self._pieces and not self.gone:
            self._stream.send(head(), b"", True)
            self._server.flush()

    def send(self, context: bytes, data: bytes, more: bool) -> None:
        """Send a part of the answer, from the thread that made it; blocks while its queue is full."""
        with self._server.lock:
            if self.gone:
                return
            if context:
                self.uninvited = None
            self._full = not self._stream.send(context, data, more)
            self._server.flush()
            while self._full and more and not self.gone:
                self._wait()  # woken by writable and cancelled

    def _wait(self) -> None:
        self._waiting = self._server.condition()
        try:
            self._waiting.wait()
        finally:
            self._waiting = None

    def error(self, text: str) -> None:
        """End the call: the application failed."""
        with self._server.lock:
            self._stream.error(text)
            self._server.flush()

    def stop(self) -> None:
        """End the call after its caller has gone."""
        with self._server.lock:
            self._stream.stop()
            self._server.flush()

    def opened(self) -> None:
        """The call was taken up: what came with it counts as read."""
        if self.more and self.body:
            with self._server.lock:
                self._stream.consumed(len(self.body))


class ThreadServer:
    """The calls of one mux relay, and the threads that run them.

    *handle* runs one call; it must end the call and raise nothing.

    :ivar draining: set when the server begins to drain.
    """

    def __init__(
        self,
        relay: Relay,
        waker: Waker,
        settings: MuxSettings,
        threads: int,
        handle: Callable[[ThreadCall], None],
    ) -> None:
        self.draining = threading.Event()
        relay.set_blocking(False)
        self._relay = relay
        self._waker = waker
        self._threads = threads
        self._handle = handle
        self._end = MuxWorkerEnd(self, settings)
        self._calls: queue.SimpleQueue[ThreadCall | None] = queue.SimpleQueue()
        self._seats = threading.local()
        self._rest = b""  # what the kernel did not take: the reading thread then watches for room
        self._finishing = False
        self._running = 0
        self._lost: str | None = None
        # Guards the end and all calls. Re-entrant, because the end calls back from within feed and take.
        self.lock = threading.RLock()
        waker.on_terminate(self._terminated)

    def serve(self, rest: bytes) -> str:
        """Run until the server asks to stop and the open calls are over; *rest* was read with the handshake.

        Gives "" when it ended in good order, else the reason.
        """
        reader = threading.Thread(target=self._read_relay, args=(rest,), name="rr-relay", daemon=True)
        for number in range(2, self._threads + 1):
            threading.Thread(target=self._run_calls, name=f"rr-call-{number}", daemon=True).start()
        reader.start()
        self._run_calls()
        reader.join(_LOST_GRACE)
        return self._lost or ""

    # ------------------------------------------------------------------ threads that run calls

    def _run_calls(self) -> None:
        while True:
            call = self._calls.get()  # woken by opened, and at the end by _end_threads
            if call is None:
                return
            if call.gone:
                call.stop()
            else:
                call.opened()
                self._handle(call)
            with self.lock:
                self._running -= 1
                if self._finishing:
                    self._waker.wake()

    def condition(self) -> threading.Condition:
        """The calling thread's own condition over the lock."""
        found: threading.Condition | None = getattr(self._seats, "condition", None)
        if found is None:
            found = self._seats.condition = threading.Condition(self.lock)
        return found

    # ------------------------------------------------------------ what the end tells, locked

    def dirty(self) -> None:
        """Nothing: whoever makes the end dirty flushes it before giving up the lock."""

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """A new call, for the next free thread."""
        call = stream.to = ThreadCall(self, stream, codec, context, body, more)
        self._running += 1
        self._calls.put(call)

    def said(self, message: dict[str, Any]) -> None:
        """``stop`` ends the worker after its calls; ``draining`` is there for applications that ask."""
        if message.get("stop"):
            self._finishing = True
        elif "draining" in message:
            self.draining.set()

    def flush(self) -> None:
        """Write what there is, as far as the kernel takes it; the reading thread does the rest. Under the lock."""
        if self._rest or self._lost is not None:
            return
        while data := self._end.take():
            self._rest = self._write(data)
            if self._rest:
                self._waker.wake()
                return

    def _write(self, data: bytes) -> bytes:
        try:
            return data[os.write(self._relay.writer, data) :]
        except BlockingIOError:
            return data
        except OSError:
            return b""  # the server is no more: reading will say so

    # ------------------------------------------------------------- the thread that reads

    def _terminated(self) -> None:
        # In a signal handler: the lock may be held by the thread that it interrupts.
        self._finishing = True

    def _read_relay(self, rest: bytes) -> None:
        poll = select.poll()
        poll.register(self._waker.fd, select.POLLIN)
        if rest:
            self._received(rest)
        watched = -1
        while not self._over():
            wanted = select.POLLOUT if self._rest else 0
            if wanted != watched:
                watched = wanted
                poll.register(self._relay.writer, wanted)
                poll.register(self._relay.reader, select.POLLIN | (wanted if self._one_socket() else 0))
            for fd, events in poll.poll():
                self._ready(fd, events)
        self._end_threads()

    def _one_socket(self) -> bool:
        return self._relay.reader == self._relay.writer

    def _ready(self, fd: int, events: int) -> None:
        if fd == self._waker.fd:
            self._waker.clear()
            return
        if fd == self._relay.writer and events & select.POLLOUT:
            with self.lock:
                rest, self._rest = self._rest, b""
                self._rest = self._write(rest)
                self.flush()
        if fd == self._relay.reader and events & ~select.POLLOUT:
            self._readable()
        elif events & (select.POLLERR | select.POLLHUP):
            self._lose("the server has closed the relay")

    def _readable(self) -> None:
        try:
            data = os.read(self._relay.reader, _READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._received(data)
        else:
            self._lose("the server has closed the relay")

    def _received(self, data: bytes) -> None:
        with self.lock:
            try:
                self._end.feed(data)
            except FrameError as error:
                self._lose(str(error))
                return
            self.flush()

    def _lose(self, reason: str) -> None:
        with self.lock:
            self._lost = reason
            self._finishing = True
            for stream in list(self._end.streams.values()):
                stream.to.cancelled("client")

    def _over(self) -> bool:
        """Whether there is nothing left to do. Asked after each event, of which the waker is one."""
        if not self._finishing:
            return False
        if self._lost is not None:
            return True
        with self.lock:
            self._end.stopping = True
            return not (self._running or self._end.streams or self._rest)

    def _end_threads(self) -> None:
        for _ in range(self._threads):
            self._calls.put(None)
        if self._lost is not None:
            timer = threading.Timer(_LOST_GRACE, _exit_now)
            timer.daemon = True
            timer.start()


def _exit_now() -> None:
    """An open call has not ended although nobody waits for it any more."""
    sys.stderr.write("twisted_rr.worker: the server is gone and a call goes on: exiting now\n")
    sys.stderr.flush()
    os._exit(1)
