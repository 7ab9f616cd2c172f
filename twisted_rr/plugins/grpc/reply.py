"""A worker's answer, as it comes from the pool, put into words for `exchange`.

`MuxReply` reads what mux.md 7 says, `SingleReply` what protocol.md 5.2 says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zope.interface import classImplements

from twisted_rr.errors import FrameError
from twisted_rr.interfaces import ICallReceiver
from twisted_rr.wire.grpc_context import decode_grpc_head, decode_single_end
from twisted_rr.wire.grpc_status import UNKNOWN

from .answers import OK_END
from .fitting import MOST_TEXT
from .status import RESOURCE_EXHAUSTED, Status, sendable

if TYPE_CHECKING:
    from .exchange import Exchange


class MuxReply:
    """From a worker that holds many calls. See `ICallReceiver`."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """The head where more follows, else the end."""
        if body:
            raise FrameError("bytes that are no message in an answer of gRPC", body)
        exchange = self._exchange
        if more:
            if exchange.answering:
                raise FrameError("a head of gRPC after the answer began", context)
            exchange.answer(decode_grpc_head(codec, context))
            return
        end = exchange.front.ends.find(codec, context)
        exchange.over(end.status.code)
        if end.most > MOST_TEXT or end.most > exchange.limit:
            exchange.finish(end.status, end.metadata)
            return
        exchange.end(end.block(not exchange.answering))
        if end.skipped:
            exchange.skipped(end.skipped)

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """One message."""
        if text:
            raise FrameError("a text in an answer of gRPC", body)
        self._exchange.message(body, more)

    def messages(self, run: list[bytes]) -> None:
        """Messages that came together (``Call.runs``)."""
        self._exchange.messages(run)

    def data(self, body: bytes, more: bool) -> None:
        """An end that says nothing is OK; nothing else comes without a context or as a message."""
        if body or more:
            raise FrameError("bytes that are no message in an answer of gRPC", body)
        exchange = self._exchange
        exchange.over(0)
        exchange.end(OK_END)

    def failed(self, error: Exception) -> None:
        """There is no answer, or no more of it."""
        self._exchange.failed(error)

    def writable(self) -> None:
        """The call has room for more messages."""
        self._exchange.room()


class SingleReply:
    """From a worker that has one call at a time: one frame, however many pieces it comes in."""

    __slots__ = ("_begun", "_exchange", "_gathered", "_trailers")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._begun = False
        self._gathered: list[bytes] | None = None  # the message, where it has to be whole to be compressed
        self._trailers: Any = ()

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """The first piece, which says how the call ended, and the message or its beginning."""
        exchange = self._exchange
        size = exchange.announced if more else len(body)
        if self._begun or size < 0:
            # The worker is told to stop, and what it still sends is dropped (protocol.md 3.8).
            exchange.fail(Status(UNKNOWN, "streaming is not supported"))
            return
        self._begun = True
        if not more and not context:
            exchange.message(body, False)  # most answers: this is all, and it is OK
            return
        try:
            code, message, details, headers, trailers = decode_single_end(context)
        except FrameError as error:
            exchange.front.log.error("{call}: {error}", call=exchange.describe(), error=error)
            exchange.fail(Status(UNKNOWN, error.reason))
            return
        if code:
            exchange.fail(Status(sendable(code), message, details), headers, trailers)
        elif size > exchange.front.max_send:
            exchange.fail(too_large(size, exchange.front.max_send))
        else:
            self._trailers = trailers
            if headers and not exchange.answer(headers):
                return
            self._message(body, size, more)

    def _message(self, body: bytes, size: int, more: bool) -> None:
        exchange = self._exchange
        if exchange.compresses(size):
            self._gathered = []
        else:
            exchange.begin_message(size)
        self.data(body, more)

    def data(self, body: bytes, more: bool) -> None:
        """The next piece of the message."""
        exchange = self._exchange
        if self._gathered is not None:
            self._gathered.append(body)
            if more:
                return
            exchange.message(b"".join(self._gathered), True)
        else:
            exchange.piece(body)
        if not more:
            exchange.over(0)
            exchange.finish(Status(0), self._trailers)

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """Such a worker has none."""
        raise FrameError("a message from a worker of one call at a time", body)

    def failed(self, error: Exception) -> None:
        """There is no answer, or no more of it."""
        self._exchange.failed(error)

    def writable(self) -> None:
        """Its request is complete before it is sent."""


class UndecidedReply:
    """From a worker whose kind is not known before it answers (``pool.debug``)."""

    __slots__ = ("_exchange", "_reply")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._reply: Any = None

    def _known(self) -> Any:
        if self._reply is None:
            kind = MuxReply if self._exchange.pool.mux else SingleReply
            self._reply = kind(self._exchange)
        return self._reply

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """See `ICallReceiver`."""
        self._known().context(codec, context, body, more)

    def data(self, body: bytes, more: bool) -> None:
        """See `ICallReceiver`."""
        self._known().data(body, more)

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """See `ICallReceiver`."""
        self._known().message(body, text, more)

    def failed(self, error: Exception) -> None:
        """See `ICallReceiver`."""
        self._exchange.failed(error)

    def writable(self) -> None:
        """See `ICallReceiver`."""
        self._exchange.room()


classImplements(MuxReply, ICallReceiver)
classImplements(SingleReply, ICallReceiver)
classImplements(UndecidedReply, ICallReceiver)


def too_large(size: int, limit: int) -> Status:
    """As grpc-go says it."""
    return Status(RESOURCE_EXHAUSTED, f"trying to send message larger than max ({size} vs. {limit})")
