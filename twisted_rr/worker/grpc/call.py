"""One gRPC call, as far as it is the same for threads and for an event loop: what came, and how it ends.

The stream's receiver. Handlers see it through a context (`grpc.context`); waiting is `grpc.sync_call`'s
and `grpc.async_call`'s.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted_rr.errors import TooLarge
from twisted_rr.wire.grpc_context import (
    Call,
    decode_call,
    decode_single_call,
    encode_grpc_end,
    encode_grpc_head,
    encode_single_end,
)
from twisted_rr.wire.grpc_status import DEADLINE_EXCEEDED, INTERNAL, UNIMPLEMENTED, UNKNOWN
from twisted_rr.worker.grpc.services import Method
from twisted_rr.worker.grpc.status import CallOver, number, outgoing, text_of, without_rich
from twisted_rr.worker.report import say, tell_failure

ONE_CALL: Final = 0
"""In place of a codec: the contexts are those of one-call workers."""

NOT_FOUND: Final = "Method not found!"
STREAMS: Final = "This server takes one message as an answer, no stream of them"


class BadMessage(CallOver):
    """A message that is missing, or that the application's own (de)serializer refuses: the call's status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def read_call(codec: int, context: bytes) -> Call:
    """The fields of a call's context. Raises FrameError."""
    return decode_single_call(context) if codec == ONE_CALL else decode_call(codec, context)


def refuse(stream: Any, codec: int, code: int, message: str) -> None:
    """End a call that no handler gets to see."""
    if codec == ONE_CALL:
        stream.send(encode_single_end(code, message, None, None, None), b"", False)
    else:
        stream.send(encode_grpc_end(codec, code, message, None, ()), b"", False)


class Nobody:
    """Receives what still comes for a call that was refused."""

    __slots__ = ()

    def data(self, body: bytes, more: bool) -> None:
        """Dropped."""

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """Dropped."""

    def finished(self, context: bytes) -> None:
        """Dropped."""

    def cancelled(self, reason: str) -> None:
        """It has ended already."""

    def writable(self) -> None:
        """It has ended already."""


NOBODY: Final = Nobody()


class GrpcCall:
    """What both kinds of call are made of. Under the server's lock, wherever another thread may look.

    :ivar fields: what its context says: `grpc_context.decode_call`.
    :ivar inbox: messages that came and that the handler has not taken.
    :ivar closed: the client sends no further message.
    :ivar gone: nobody waits for the answer; :ivar reason: why, as the server told.
    :ivar ended: the status was sent.
    :ivar headed: initial metadata can no longer be sent.
    :ivar code: what the handler set, None before; :ivar details: likewise.
    :ivar trailing: trailing metadata, as the handler set it.
    :ivar deadline: in `time.monotonic` seconds, None when there is none.
    :ivar callbacks: to be called at the end; None once that has come.
    """

    __slots__ = (
        "_head", "_trailing", "callbacks", "closed", "code", "codec", "deadline", "details",
        "ended", "fields", "gone", "headed", "inbox", "method", "reason", "stream", "trailing",
    )  # fmt: skip

    def __init__(self, stream: Any, codec: int, method: Method, fields: Call) -> None:
        self.stream = stream
        self.codec = codec
        self.method = method
        self.fields = fields
        limit = fields[3]
        self.deadline: float | None = None if limit is None else time.monotonic() + limit / 1000
        self.inbox: Any = deque() if method.request_streaming else []
        self.closed = False
        self.gone = False
        self.reason = ""
        self.ended = False
        self.headed = False
        self.code: Any = None
        self.details: Any = None
        self.trailing: Any = None
        self.callbacks: list[Callable[[], Any]] | None = []
        self._head: list[tuple[str, str | bytes]] | None = None
        self._trailing: list[tuple[str, str | bytes]] | None = None

    # ------------------------------------------------------------------ the relay's side

    def data(self, body: bytes, more: bool) -> None:
        """The client's half-close. Bytes that are no message are the server's mistake."""
        if body:
            self.stream.error("bytes came where messages are due")
            self.cancelled("")
            return
        self.closed = not more
        self.changed()

    def message(self, body: bytes, text: bool, more: bool) -> None:
        """A message of the client."""
        self.inbox.append(body)
        if not more:
            self.closed = True
        self.changed()

    def finished(self, context: bytes) -> None:
        """The client's half-close, with a context that means nothing."""
        self.closed = True
        self.changed()

    def cancelled(self, reason: str) -> None:
        """The call was given up: ``client``, ``deadline``, ``drain``, ``timeout``."""
        self.gone = True
        self.reason = reason
        self.inbox.clear()
        self.dropped()

    def changed(self) -> None:
        """Something came: to be filled in."""
        raise NotImplementedError

    def dropped(self) -> None:
        """The call was given up: to be filled in."""
        raise NotImplementedError

    # ------------------------------------------------------------------ what handlers ask and say

    def over(self) -> bool:
        """Whether nothing that the handler sends would reach anybody."""
        return self.gone or self.ended or (self.deadline is not None and time.monotonic() >= self.deadline)

    def why_over(self) -> str:
        """For an exception's text."""
        if self.ended:
            return "the call has ended"
        return f"the call was cancelled ({self.reason or 'deadline'})"

    def initial(self, metadata: Any) -> None:
        """Send the initial metadata. Raises ValueError when it is too late."""
        if self.headed:
            raise ValueError("Initial metadata no longer allowed!")
        pairs = outgoing(metadata)
        self.headed = True
        if self.codec == ONE_CALL:
            self._head = pairs
        else:
            self.stream.send(encode_grpc_head(self.codec, pairs), b"", True)

    def set_trailing(self, metadata: Any) -> None:
        """Take the trailing metadata; the last one counts. Raises ValueError or TypeError."""
        self._trailing = outgoing(metadata)
        self.trailing = metadata

    def request(self) -> Any:
        """The one request of a method that takes one, made by the deserializer. Raises BadMessage."""
        if not self.inbox:
            raise BadMessage(UNIMPLEMENTED, f'"{self.method.path}" requires exactly one request message.')
        return self.decoded(self.inbox[0])

    def decoded(self, body: bytes) -> Any:
        """*body* as the handler wants it. Raises BadMessage."""
        deserialize = self.method.deserialize
        if deserialize is None:
            return body
        try:
            return deserialize(body)
        except Exception as error:
            tell_failure(f"{self.method.path}: the request cannot be deserialized", error)
            raise BadMessage(INTERNAL, "Exception deserializing request!") from error

    def encoded(self, response: Any) -> bytes:
        """The bytes of *response*. Raises BadMessage."""
        serialize = self.method.serialize
        try:
            data = response if serialize is None else serialize(response)
            if type(data) is bytes:
                return data
            if isinstance(data, (bytearray, memoryview)):
                return bytes(data)
            raise TypeError(f"a response should be bytes, not {type(data).__name__}")
        except Exception as error:
            tell_failure(f"{self.method.path}: the response cannot be serialized", error)
            raise BadMessage(INTERNAL, "Failed to serialize response!") from error

    def answer(self, response: Any) -> bytes | None:
        """The bytes of *response* of a method that gives one; None where the handler set the status of a failure.

        It is not looked at then: to set a code and return nothing is a usual way to fail. Raises BadMessage.
        """
        if self.code is not None and number(self.code):
            return None
        return self.encoded(response)

    # ------------------------------------------------------------------------------- the end

    def succeed(self, data: bytes | None) -> None:
        """The handler returned; *data* is the response of a method that gives one."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            # It may have looked at the time and given up: what it returned then is no answer, and a client whose own
            # clock is a little late must not take it for one.
            self.end(DEADLINE_EXCEEDED, "Deadline Exceeded", None)
            return
        code = 0 if self.code is None else number(self.code)
        message = "" if self.details is None else text_of(self.details)
        self.end(code, message, None if code else data)

    def fail(self, error: BaseException, doing: str) -> None:
        """The handler raised: its own code and details count, where it set them."""
        if isinstance(error, BadMessage):
            self.end(error.code, str(error), None)
            return
        if isinstance(error, CallOver) and self.over():
            self.end(DEADLINE_EXCEEDED, "Deadline Exceeded", None)  # unless it has ended, or is given up
            return
        message = f"{doing}: {printed(error)}" if self.details is None else text_of(self.details)
        self.end((0 if self.code is None else number(self.code)) or UNKNOWN, message, None)

    def end(self, code: int, message: str, data: bytes | None) -> None:
        """Send the status, and before it *data* as the last message. Later ones do nothing."""
        if self.ended:
            return
        self.ended = True
        if self.gone:
            self.stream.stop()
        else:
            try:
                self._end(code, message, data)
            except TooLarge as error:
                say(f"{self.method.path}: {error}")
                self.stream.error(str(error))
        if self.codec != ONE_CALL:
            self.stream.to = NOBODY  # or they would hold each other until the next garbage collection

    def _end(self, code: int, message: str, data: bytes | None) -> None:
        stream = self.stream
        context = b""
        if self.codec == ONE_CALL:
            rich, trailing = without_rich(self._trailing or [])
            context = encode_single_end(code, message, rich, self._head, trailing, self._skipped)
            stream.send(context, data or b"", False)
            return
        if code or message or self._trailing:
            rich, trailing = without_rich(self._trailing or [])
            context = encode_grpc_end(self.codec, code, message, rich, trailing)
        if data is None:
            stream.send(context, b"", False)
        else:
            stream.message(data, False, False, context)

    def _skipped(self, key: str) -> None:
        say(f"{self.method.path}: the metadata {key!r} is left out: this server takes text only")

    def take_callbacks(self) -> list[Callable[[], Any]]:
        """What is to be called at the end, once."""
        callbacks, self.callbacks = self.callbacks, None
        return callbacks or []


def printed(error: BaseException) -> str:
    """The text of *error*, which may fail to print itself."""
    try:
        return str(error)
    except Exception:
        return f"unprintable {type(error).__name__}"


def run_callbacks(callbacks: list[Callable[[], Any]]) -> None:
    """Call all; what one raises is said and stops no other."""
    for callback in callbacks:
        try:
            callback()
        except Exception as error:
            tell_failure("A callback at the end of a gRPC call failed", error)
