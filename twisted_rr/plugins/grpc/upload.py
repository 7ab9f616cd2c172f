"""What a client sends on a call, where it does not come whole with the head: messages out of bytes, and on to the call.

A call that takes no more for now holds its client back. Bytes become messages in `framing`; what becomes of the call is
the exchange's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted_rr.wire.grpc_status import INTERNAL

from .framing import Inbox, sole
from .status import UNIMPLEMENTED, Refusal

if TYPE_CHECKING:
    from .exchange import Exchange


class Upload:
    """The request of one exchange.

    :ivar half_closed: the client has sent everything.
    :ivar unary: it may send one message.
    """

    __slots__ = ("_call", "_exchange", "_first", "_full", "_inbox", "_owed", "_told", "half_closed", "unary")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._call: Any = None
        self._inbox: Inbox | None = None
        self._first: bytes | None = None  # the message of a unary call
        self._told = False  # the worker knows that there are no more
        self._full = False  # the call takes no more for now; the waker is `room`
        self._owed = 0  # bytes that the client may send again by then
        self.half_closed = False
        self.unary = not (exchange.pool.mux and exchange.derived.streams is not False)

    def feed(self, data: bytes, end: bool) -> bool:
        """A piece of it, with *end* the last; False while the call takes no more: `room` says when it is used.

        :raises Refusal: the client's fault.
        """
        self.half_closed = end
        exchange = self._exchange
        inbox = self._inbox
        if inbox is None:
            limit = exchange.front.max_receive
            message = sole(data, limit) if end else None
            if message is not None:
                self._opened().message(message, False, False)
                exchange.received += 1
                return True
            inbox = self._inbox = Inbox(limit, exchange.derived.gzip_in)
        inbox.feed(data)
        self._pump(inbox)
        if self._full:
            self._owed += len(data)
            return False
        return True

    def room(self) -> int:
        """The call takes messages again. How many bytes are used by that, and may be sent once more.

        :raises Refusal: the client's fault.
        """
        if not self._full:
            return 0
        self._full = False
        owed, self._owed = self._owed, 0
        if self._inbox is not None:
            self._pump(self._inbox)
        if self._full:
            self._owed += owed
            return 0
        return owed

    def open(self) -> None:
        """Begin the call, if it is not, without a message."""
        self._opened()

    def _opened(self) -> Any:
        call = self._call
        if call is None:
            call = self._call = self._exchange.open()
        return call

    def _pump(self, inbox: Inbox) -> None:
        """Hand over the messages that are complete, as far as the call takes them."""
        while not self._full:
            message = inbox.next()
            if message is None:
                break
            self._take(message, self.half_closed and not inbox.size)
        if self.half_closed and not self._full:
            if inbox.size:
                raise Refusal(INTERNAL, "the request ends inside a message")
            self._complete()

    def _take(self, message: bytes, last: bool) -> None:
        self._exchange.received += 1
        if self.unary:
            if self._first is not None:
                raise self._one_too_many()
            self._first = message
            return
        call = self._opened()
        self._told = last
        self._full = not call.message(message, False, not last)

    def _one_too_many(self) -> Refusal:
        if self._exchange.derived.streams is False:
            return Refusal(INTERNAL, "a second message for a method that takes one")
        return Refusal(UNIMPLEMENTED, "the workers take one message a call: streaming is not supported")

    def _complete(self) -> None:
        """The client has sent everything."""
        if self.unary:
            if self._first is None:
                raise Refusal(INTERNAL, "a call without a message")
            self._opened().message(self._first, False, False)
            self._first = None
            return
        call = self._opened()
        if not self._told:
            self._told = True
            call.send(b"", False)


class Openings:
    """The calls that began in this turn and may have no message yet: one item of the turn for all of them."""

    __slots__ = ("_calls", "_turn")

    def __init__(self, turn: Any) -> None:
        self._turn = turn
        self._calls: list[Exchange] = []

    def add(self, exchange: Exchange) -> None:
        """*exchange* is flushed before the turn ends."""
        calls = self._calls
        if not calls:
            self._turn.add(self)
        calls.append(exchange)

    def flush(self) -> None:
        """The turn ends."""
        calls = self._calls
        self._calls = []
        for exchange in calls:
            exchange.flush()
