"""One HTTP call of an ASGI application: its receive and send, between the task and the relay.

Starting the application and its scope are `asgi`'s. Every wait names its waker beside it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted_rr.worker.draining import is_endless
from twisted_rr.worker.report import say

Headers = list[tuple[bytes, bytes]]

START: Final = 0
BODY: Final = 1
TRAILERS: Final = 2
ENDED: Final = 3
_AWAITED: Final = (
    "http.response.start",
    "http.response.body",
    "http.response.trailers",
    "nothing, it is complete",
)

CANCEL_GRACE: Final = 8.0
"""Seconds an application may go on after it was told ``http.disconnect``. Below the server's ``cancel_timeout``
of 10 s, after which it would replace the worker."""

UNHEARD: Final = 0.05
"""Seconds after which one is cancelled that does not listen for ``http.disconnect``: it would do work for nobody, and
keep its place from those who wait."""

_GONE_PAUSE: Final = 0.01
"""Seconds that a piece of a stream to nobody takes. Without it an application that streams for ever,
and listens to nothing, would keep its loop from everything else, its own cancellation included."""

SMALL: Final = 65536
"""Bytes up to which pieces of a body that wait for the application are given as one."""

_DISCONNECT: Final = "http.disconnect"
_NO_HEADERS: Final[Headers] = []


class Codec:
    """How the contexts of one relay's answers are written.

    :ivar head: status and headers of an answer.
    :ivar trailers: its trailers; None where the relay has no place for them.
    :ivar last: status, headers and context of the last head: answers repeat each other's.
    """

    __slots__ = ("head", "last", "trailers")

    def __init__(
        self, head: Callable[[int, Headers], bytes], trailers: Callable[[Headers], bytes] | None = None
    ) -> None:
        self.head = head
        self.trailers = trailers
        self.last: tuple[float, Headers, bytes] = (float("nan"), [], b"")  # equal to no status


class Exchange:
    """What an application's coroutine holds of its request, and the stream's receiver.

    :ivar phase: which message the application has to send next.
    :ivar asked: it is an endless stream and the server stops: receive gives ``http.disconnect``, send goes on.
    :ivar gone: nobody waits for the answer: receive gives ``http.disconnect``, send does nothing.
    :ivar task: runs the application.
    :ivar timer: set while an application that was told to stop goes on.
    """

    __slots__ = (
        "_body", "_codec", "_given", "_head", "_headers", "_heard", "_loop", "_more", "_pieces", "_readers", "_stream",
        "_trailers", "_waiting", "_with_trailers", "_uninvited", "_writers", "asked", "gone", "phase", "scope", "task", "timer",
    )  # fmt: skip

    def __init__(
        self,
        stream: Any,
        codec: Codec,
        loop: asyncio.AbstractEventLoop,
        scope: dict[str, Any],
        body: bytes,
        more: bool,
        pieces: Any = None,
    ) -> None:
        self._stream = stream
        self._codec = codec
        self._loop = loop
        self._body = body  # the next piece to give; empty only if there is none
        self._waiting: deque[bytes] | None = None  # those behind it, none of them empty
        self._more = more
        self._pieces = pieces  # an iterator of body that is made again from a form, one-call relays only
        self._given = False
        self._uninvited = more
        self._head = b""
        self._headers = _NO_HEADERS
        self._with_trailers = False
        self._trailers = _NO_HEADERS
        self._readers: list[asyncio.Future[None]] | None = None
        self._writers: list[asyncio.Future[None]] | None = None
        self.phase = START
        self.asked = False
        self.gone = False
        self._heard = False
        self.scope = scope
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    # ------------------------------------------------------------------ the application's side

    async def receive(self) -> dict[str, Any]:
        """The next ``http.request``, or ``http.disconnect`` once the call is over or given up."""
        while not self.gone and not self.asked and self.phase != ENDED:
            if not self._given and (self._body or not self._more):
                return self._next_piece()
            if self._uninvited:
                self._invite()
            future = self._loop.create_future()
            if self._readers is None:
                self._readers = [future]
            else:
                self._readers.append(future)
            # woken by data, finished, cancelled, ask_to_end and the end of the answer
            await future
        self._heard = self.gone
        return {"type": _DISCONNECT}

    def _next_piece(self) -> dict[str, Any]:
        body = self._body
        waiting = self._waiting
        if waiting is None:
            self._body = b""
        else:
            self._body = waiting.popleft()
            if not waiting:
                self._waiting = None
            if len(body) < SMALL:
                body = self._joined(body)
        if self._pieces is not None:
            body = next(self._pieces, b"")
            self._given = not body
            return {"type": "http.request", "body": body, "more_body": bool(body)}
        more = self._more or self._body != b""
        if self._more:
            self._stream.consumed(len(body))
        elif not more:
            self._given = True
        return {"type": "http.request", "body": body, "more_body": more}

    def _joined(self, body: bytes) -> bytes:
        """*body* with what follows it, up to `SMALL` bytes: what a client sent in drops is not drunk in drops."""
        parts = [body]
        size = len(body)
        while self._body and size + len(self._body) <= SMALL:
            parts.append(self._body)
            size += len(self._body)
            waiting = self._waiting
            if waiting is None:
                self._body = b""
                break
            self._body = waiting.popleft()
            if not waiting:
                self._waiting = None
        return b"".join(parts)

    def _invite(self) -> None:
        """The first wait for a body asks for it, where the client waits to be asked (RFC 9110 10.1.1)."""
        self._uninvited = False
        if self.phase == START and any(name == b"expect" for name, _ in self.scope["headers"]):
            self._stream.send(self._codec.head(100, []), b"", True)

    async def send(self, message: Any) -> None:
        """Take one message of the application's. RuntimeError for one that is out of order or malformed."""
        if not isinstance(message, dict):
            message = dict(message)  # another mapping
        kind = message["type"]
        if kind == "http.response.body":
            if self.phase != BODY:
                self._refuse(kind)
                return
            body = message.get("body", b"")
            if type(body) is not bytes:
                body = _as_bytes(body)
            more = message.get("more_body", False)
            if self.gone:
                self._leave(more)
                if more:
                    await asyncio.sleep(_GONE_PAUSE)
                return
            if more or self._with_trailers:
                room = self._stream.send(self._take_head(), body, True)
                if not more:
                    self.phase = TRAILERS
                elif not room:
                    await self._room()
            else:
                self.phase = ENDED
                head, self._head = self._head, b""
                self._stream.send(head, body, False)
                if self._readers is not None:
                    self._wake_readers()
        elif kind == "http.response.start":
            if self.phase != START:
                self._refuse(kind)
                return
            self._start(message)
        elif kind == "http.response.trailers":
            self._add_trailers(message)
        else:
            raise RuntimeError(f"an HTTP application sends no {kind!r}")

    def _start(self, message: dict[str, Any]) -> None:
        status = message["status"]
        last_status, last_headers, head = self._codec.last
        if (
            type(status) is int
            and status == last_status
            and message.get("headers") == last_headers
            and "trailers" not in message
        ):
            self._headers = last_headers
            self._head = head
            self.phase = BODY
            return
        if not isinstance(status, int) or not 200 <= status <= 599 or isinstance(status, bool):
            raise RuntimeError(
                f"the status of http.response.start should be a number, 200 to 599, not {status!r}"
            )
        status = int(status)  # of a subclass, which not every encoder of contexts knows
        headers = checked(message.get("headers", ()))
        if message.get("trailers") and self._codec.trailers is not None:
            self._with_trailers = True
        self._headers = headers
        self._head = self._codec.head(status, headers)
        self._codec.last = (status, list(headers), self._head)
        self.phase = BODY

    def _take_head(self) -> bytes:
        head = self._head
        if head:
            self._head = b""
        return head

    def _add_trailers(self, message: dict[str, Any]) -> None:
        if self.phase != TRAILERS:
            self._refuse("http.response.trailers")
            return
        self._trailers = self._trailers + checked(message.get("headers", ()))
        if not message.get("more_trailers", False):
            self.phase = ENDED
            encode = self._codec.trailers
            if not self.gone and encode is not None:
                self._stream.send(encode(self._trailers), b"", False)
            self._wake_readers()

    def _leave(self, more: bool) -> None:
        """The same steps without anything to send them to."""
        if not more:
            self.phase = TRAILERS if self._with_trailers else ENDED

    def _refuse(self, kind: str) -> None:
        if not (self.gone and self.phase == ENDED):
            raise RuntimeError(
                f"the application sent {kind!r} where it should have sent {_AWAITED[self.phase]}"
            )

    async def _room(self) -> None:
        future = self._loop.create_future()
        if self._writers is None:
            self._writers = [future]
        else:
            self._writers.append(future)
        # woken by writable and cancelled
        await future

    # ------------------------------------------------------------------ the relay's side

    def data(self, body: bytes, more: bool) -> None:
        """A piece of the request's body."""
        if not self._body:
            self._body = body
        elif body:
            if self._waiting is None:
                self._waiting = deque()
            self._waiting.append(body)
        self._more = more
        if self._readers is not None:
            self._wake_readers()

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """A request's body is no message: the server's mistake, taken as bytes."""
        self.data(body, more)

    def finished(self, context: bytes) -> None:
        """The body ended with trailers, for which ASGI has no place."""
        self.data(b"", False)

    def cancelled(self, reason: str) -> None:
        """The call was given up: the application is told, and gets some seconds to heed it."""
        self.gone = True
        self._body = b""
        self._waiting = None
        self.timer = self._loop.call_later(UNHEARD, self._look)
        self._wake_readers()
        self._wake_writers()

    def ask_to_end(self) -> None:
        """The server stops: an endless stream that has begun is told that its client leaves (drain.md F20).

        Whatever else the application does is left alone: a request that waits for its answer, a download.
        """
        if self.phase == BODY and not self.asked and not self._head and is_endless(self._headers):
            self.asked = True
            self._wake_readers()

    def writable(self) -> None:
        """There is room for more of the answer."""
        self._wake_writers()

    def _look(self) -> None:
        """Whoever listens ends in its own way; whoever does not ends here."""
        self.timer = None
        if self._heard:
            self.timer = self._loop.call_later(CANCEL_GRACE - UNHEARD, self._insist)
        elif self.task is not None:
            self.task.cancel()

    def _insist(self) -> None:
        self.timer = None
        if self.task is not None:
            say(
                f"{self.describe()} is cancelled: it went on for {CANCEL_GRACE:g} s after its caller had gone"
            )
            self.task.cancel()

    def describe(self) -> str:
        """The request in one log-safe line."""
        return ascii(f"{self.scope['method']} {self.scope['path']}")[1:-1]

    def _wake_readers(self) -> None:
        futures, self._readers = self._readers, None
        _wake(futures)

    def _wake_writers(self) -> None:
        futures, self._writers = self._writers, None
        _wake(futures)

    # ------------------------------------------------------------------ the runner's side

    def returned(self) -> str | None:
        """The application's coroutine has ended; gives what was wrong with its answer, if anything."""
        if self.phase == ENDED:
            if self.gone:
                self._stream.stop()
            return None
        phase, self.phase = self.phase, ENDED
        if self.gone:
            self._stream.stop()
            return None
        if self.asked:
            # It left as it would have for a client that went away; the client gets a proper end.
            self._stream.send(b"", b"", False)
            return None
        text = f"the application returned where it should have sent {_AWAITED[phase]}"
        self._stream.error(text)
        return text

    def failed(self, error: BaseException) -> None:
        """The application raised: nothing but an error can follow."""
        self.phase = ENDED
        if self.gone:
            self._stream.stop()
        else:
            self._stream.error(f"{type(error).__name__}: {error}")
        self._wake_readers()


def _wake(futures: list[asyncio.Future[None]] | None) -> None:
    if futures is not None:
        for future in futures:
            if not future.done():
                future.set_result(None)


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    raise RuntimeError(f"the body of http.response.body should be bytes, not {type(body).__name__}")


def checked(headers: Any) -> Headers:
    """*headers* as a list of pairs of bytes. Raises RuntimeError."""
    pairs = headers if type(headers) is list else list(headers)
    try:
        for pair in pairs:
            name, value = pair
            if type(name) is not bytes or type(value) is not bytes or type(pair) is not tuple:
                return [(_header_bytes(name), _header_bytes(value)) for name, value in pairs]
    except (TypeError, ValueError):
        raise RuntimeError("response headers should be pairs of bytes") from None
    return pairs


def _header_bytes(text: Any) -> bytes:
    if isinstance(text, (bytes, bytearray, memoryview)):
        return bytes(text)
    raise RuntimeError(f"a response header's name and value should be bytes, not {type(text).__name__}")
