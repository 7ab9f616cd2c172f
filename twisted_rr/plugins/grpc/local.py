"""Calls that the server answers itself: health and reflection. They are never in flight, so none holds a stop.

What they answer is `health` and `reflection`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from twisted_rr.wire.grpc_status import INTERNAL

from . import answers
from .framing import Inbox, framed
from .head import Derived
from .status import DEADLINE_EXCEEDED, UNAVAILABLE, Refusal, Status

if TYPE_CHECKING:
    from twisted_rr.http2.streams import Stream

    from .service import GrpcFront

MAX_MESSAGE = 65536
"""No request to these services needs more."""

ENDED = Status(UNAVAILABLE, "the server is stopping: ask another one")


class Handler(Protocol):
    """Answers one call by the methods of its `LocalExchange`. May raise `Refusal` where it is asked something.

    :ivar lasting: it does not end by itself, so a stop ends it.
    """

    lasting: bool

    def message(self, data: bytes) -> None:
        """A message of the client's."""

    def done(self) -> None:
        """The client has sent all of them."""

    def gone(self) -> None:
        """The call is over."""


MakeHandler = Callable[["LocalExchange"], Handler]


class LocalExchange:
    """One call; see ``http2.contract.Exchange``.

    :ivar full: the client does not take what was sent: say no more than has to be said.
    """

    __slots__ = (
        "_ended", "_front", "_half_closed", "_handler", "_inbox", "_owed", "_started", "_stream", "_tick", "_timeout",
        "full",
    )  # fmt: skip

    def __init__(self, front: GrpcFront, stream: Stream, derived: Derived, timeout: float) -> None:
        self._front = front
        self._stream = stream
        self._timeout = timeout
        self._inbox = Inbox(MAX_MESSAGE, derived.gzip_in)
        self._half_closed = False
        self._started = False
        self._ended = False
        self._owed = 0
        self._tick = -1
        self.full = False
        make: MakeHandler = derived.local
        self._handler = make(self)

    def start(self, end: bool) -> None:
        """The head is complete; with *end* there is no more."""
        if self._timeout:
            self._tick = self._front.deadlines.add(self, self._front.seconds() + self._timeout)
        if end:
            self.data(b"", True)

    def data(self, data: bytes, end: bool) -> bool:
        """A piece of the request."""
        if self._ended:
            return True
        self._inbox.feed(data)
        self._half_closed = end
        self._pump()
        if self.full:
            self._owed += len(data)
            return False
        return True

    def trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """They mean nothing."""
        self.data(b"", True)

    def _pump(self) -> None:
        heard = False
        try:
            while not self.full and not self._ended:
                message = self._inbox.next()
                if message is None:
                    break
                self._handler.message(message)
                heard = True
            if self._half_closed and not self.full and not self._ended:
                if self._inbox.size:
                    raise Refusal(INTERNAL, "the request ends inside a message")
                self._handler.done()
            if heard and self._front.finishing and self._handler.lasting:
                self.end_for_stop()
        except Refusal as refusal:
            self.finish(Status(refusal.code, refusal.message))

    def reply(self, message: bytes) -> None:
        """Send a message."""
        if self._ended:
            return
        if self._started:
            flows = self._stream.send(framed(message))
        else:
            self._started = True
            flows = self._stream.respond(answers.HEAD, framed(message))
        self.full = not flows

    def finish(self, status: Status) -> None:
        """End the call; `Handler.gone` follows."""
        if self._ended:
            return
        self._ended = True
        if self._started:
            self._stream.trailers(answers.end(status, (), []))
        elif status.code:
            self._stream.respond(answers.alone(status, (), []), end=True)
        else:
            self._stream.respond(answers.HEAD, trailers=answers.OK_END)
        self._gone()

    def writable(self) -> None:
        """The client takes again."""
        self.full = False
        owed, self._owed = self._owed, 0
        self._pump()
        if not self.full:
            woken = getattr(self._handler, "writable", None)
            if woken is not None:
                woken()
        self._stream.consumed(owed)

    def closed(self) -> None:
        """The answer is with the kernel."""

    def reset(self, code: int) -> None:
        """The client is gone."""
        if not self._ended:
            self._ended = True
            self._gone()

    def expire(self) -> None:
        """The client's deadline has come."""
        self._tick = -1
        self.finish(Status(DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def end_for_stop(self) -> None:
        """The server stops: what does not end by itself is ended."""
        if self._handler.lasting:
            self.finish(ENDED)

    def _gone(self) -> None:
        if self._tick >= 0:
            self._front.deadlines.discard(self, self._tick)
        self._handler.gone()
        self._front.local_over(self)


class Unary:
    """A handler for a method that takes one message and answers one."""

    lasting = False

    def __init__(self, exchange: LocalExchange, answer: Callable[[bytes], bytes]) -> None:
        self._exchange = exchange
        self._answer = answer
        self._request: bytes | None = None

    def message(self, data: bytes) -> None:
        """See `Handler`."""
        if self._request is not None:
            raise Refusal(INTERNAL, "a second message for a method that takes one")
        self._request = data

    def done(self) -> None:
        """See `Handler`."""
        if self._request is None:
            raise Refusal(INTERNAL, "a call without a message")
        self._exchange.reply(self._answer(self._request))
        self._exchange.finish(Status(0))

    def gone(self) -> None:
        """Nothing is kept."""


def unary(answer: Callable[[bytes], bytes]) -> Any:
    """What makes the handler for a method that is one function of its request."""
    return lambda exchange: Unary(exchange, answer)
