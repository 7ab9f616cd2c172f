"""One call of a mux relay that a thread runs: its receiver for the relay, its channel for the thread.

Which thread reads the relay, and when, is `threads`' affair.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted_rr.worker.wsgi import Disconnected


class Threads(Protocol):
    """The server of threads, as a call sees it."""

    lock: Any
    draining: Any

    def flush(self) -> None:
        """Write what there is. Under the lock."""

    def wait(self, call: ThreadCall) -> None:
        """Return when something may have changed for *call*. Under the lock."""

    def leave(self) -> None:
        """The calling thread waits no more. Under the lock."""


class ThreadCall:
    """The stream's receiver (with the lock held), and a `wsgi.Channel` for the thread that runs it.

    :ivar body: what came with the call.
    :ivar streamed: whether `body` is not all; what follows may have come before the call is taken up.
    :ivar more: whether more of the body is still to come.
    :ivar gone: nobody waits for the answer.
    :ivar waiting: the condition its thread waits for, None while it does not.
    :ivar uninvited: makes the interim head that asks for the body, until that was sent.
    """

    __slots__ = (
        "_full", "_pieces", "_stream", "_threads", "body", "codec", "context", "gone", "more", "streamed", "uninvited", "waiting",
    )  # fmt: skip

    def __init__(
        self, threads: Threads, stream: Any, codec: int, context: bytes, body: bytes, more: bool
    ) -> None:
        self._threads = threads
        self._stream = stream
        self._pieces: deque[bytes] = deque()
        self._full = False
        self.codec = codec
        self.context = context
        self.body = body
        self.more = self.streamed = more
        self.gone = False
        self.waiting: threading.Condition | None = None
        self.uninvited: Callable[[], bytes] | None = None

    @property
    def ending(self) -> bool:
        """See `wsgi.Channel.ending`."""
        over: bool = self._threads.draining.streams_over()
        return over

    # ------------------------------------------------------------- for the end, under the lock

    def data(self, body: bytes, more: bool) -> None:
        """A piece of the request's body."""
        if body:
            self._pieces.append(body)
        self.more = more
        self.wake()

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
        self.wake()

    def writable(self) -> None:
        """There is room for more of the answer."""
        self._full = False
        self.wake()

    def wake(self) -> None:
        """Let the call's thread look again, if it waits."""
        if self.waiting is not None:
            self.waiting.notify()

    # ------------------------------------------------------------------- for the call's thread

    def taken_up(self) -> None:
        """A thread runs it from now on: what came with it counts as read."""
        if self.more and self.body:
            with self._threads.lock:
                self._stream.consumed(len(self.body))
                self._threads.flush()  # it may have been all that the server may send, and nobody else reads for that

    def read(self) -> bytes:
        """The next piece of the body, empty at its end; blocks. Raises Disconnected."""
        threads = self._threads
        with threads.lock:
            if self.uninvited is not None:
                self._invite()
            waited = False
            while not self._pieces and self.more and not self.gone:
                threads.wait(self)  # woken by data, finished, cancelled, or by reading them itself
                waited = True
            if waited:
                threads.leave()
            if self.gone:
                raise Disconnected("the client has gone")
            if not self._pieces:
                return b""
            piece = self._pieces.popleft()
            if self.more:
                self._stream.consumed(len(piece))
                threads.flush()
            return piece

    def _invite(self) -> None:
        """The first read asks for the body, where the client waits to be asked (RFC 9110 10.1.1)."""
        head, self.uninvited = self.uninvited, None
        if head is not None and self.more and not self._pieces and not self.gone:
            self._stream.send(head(), b"", True)
            self._threads.flush()

    def send(self, context: bytes, data: bytes, more: bool) -> None:
        """Send a part of the answer; blocks while its queue is full."""
        threads = self._threads
        with threads.lock:
            if self.gone:
                if not more:
                    self._stream.stop()  # nobody gets it, but the server waits for the end
                    threads.flush()
                return
            self.uninvited = None
            self._full = not self._stream.send(context, data, more)
            threads.flush()
            waited = False
            while self._full and more and not self.gone:
                threads.wait(self)  # woken by writable and cancelled, or by reading them itself
                waited = True
            if waited:
                threads.leave()

    def error(self, text: str) -> None:
        """End the call: the application failed."""
        with self._threads.lock:
            self._stream.error(text)
            self._threads.flush()

    def stop(self) -> None:
        """End the call after its caller has gone."""
        with self._threads.lock:
            self._stream.stop()
            self._threads.flush()
