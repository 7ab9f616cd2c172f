"""One call for the workers: from its complete head to the last byte of its answer taken by the kernel.

It stands between a stream and a pool's call, and carries messages both ways with back-pressure. `GrpcFront` makes
it, `reply` says what the worker meant. Left out: frames (`twisted_rr.http2`), placing (`twisted_rr.pool`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted_rr.http2.blocks import Block
from twisted_rr.http2.codes import INTERNAL_ERROR
from twisted_rr.wire.grpc_status import INTERNAL

from . import answers
from .compression import LEAST, compress
from .framing import PREFIX, SIZE, Inbox, framed, too_large
from .head import CallHead, Derived, UnknownEncoding
from .reply import MuxReply, SingleReply, UndecidedReply
from .reply import too_large as too_large_to_send
from .status import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    UNAVAILABLE,
    UNIMPLEMENTED,
    Refusal,
    Status,
    of_failure,
)

if TYPE_CHECKING:
    from twisted_rr.http2.streams import Stream

    from .service import GrpcFront

WAITING: Final = 0  #: nothing was sent
ANSWERING: Final = 1  #: the head was
ENDED: Final = 2  #: the end was given to the stream, which may still hold it
OVER: Final = 3  #: the stream is gone

STOPPING: Final = Status(UNAVAILABLE, "the server is stopping")


class Exchange:
    """Made by ``Front.begin``; see ``http2.contract.Exchange``.

    :ivar pool: where its call goes.
    :ivar since: monotonic seconds at its beginning.
    :ivar deadline: monotonic seconds, 0 for none.
    :ivar code: what it ended with, -1 while it has not.
    :ivar sent: messages to the client; ``received`` those of the client.
    :ivar size: bytes of the answer's messages.
    :ivar cut: the server broke it off.
    :ivar refused: it was turned away because the server stops.
    """

    __slots__ = (
        "_call", "_first", "_full", "_half_closed", "_inbox", "_left", "_owed", "_state", "_stream", "_tick", "_told",
        "_unary", "code", "cut", "deadline", "derived", "front", "pool", "received", "refused", "sent", "since", "size",
    )  # fmt: skip

    def __init__(self, front: GrpcFront, stream: Stream, derived: Derived) -> None:
        self.front = front
        self.derived = derived
        routes = front.routes
        pool: Any = front.pool if routes is None else routes.pool(derived.service)
        self.pool = pool
        self.since: float = front.seconds()
        self.deadline = self.since + derived.timeout if derived.timeout else 0.0
        self.code = -1
        self.cut = False
        self.refused = False
        self.sent = 0
        self.received = 0
        self.size = 0
        self._stream = stream
        self._state = WAITING
        self._call: Any = None
        self._tick = -1
        # the request
        self._unary = not (pool.mux and derived.streams is not False)
        self._inbox: Inbox | None = None
        self._first: bytes | None = None  # the message of a unary call
        self._half_closed = False
        self._told = False  # the worker knows that there are no more
        self._full = False  # the call takes no more for now; the waker is `room`
        self._owed = 0  # bytes that the client may send again by then
        # the answer
        self._left = 0  # of a message that is sent in pieces

    def describe(self) -> str:
        """One short word for logs."""
        return self.derived.path

    @property
    def worker_pid(self) -> int:
        """The process of the worker that has the call, 0 while none has."""
        worker = getattr(self._call, "worker", None)
        return 0 if worker is None else int(worker.pid)

    # -------------------------------------------------------------------------------- the request

    def start(self, end: bool) -> None:
        """The head is complete; with *end* there is no more."""
        if self.deadline:
            self._tick = self.front.deadlines.add(self, self.deadline)
        if end:
            self.data(b"", True)
        elif not self._unary:
            # Messages that came with the head open the call. The waker when none did: `flush`, this turn.
            self.front.openings.add(self)

    def whole(self, data: bytes) -> None:
        """The head, and all of the request with it."""
        if self.deadline:
            self._tick = self.front.deadlines.add(self, self.deadline)
        self.data(data, True)

    def flush(self) -> None:
        """The turn ends: a worker may speak first, and the client wait for that."""
        if self._call is None and self._state == WAITING and not self._half_closed:
            try:
                self._open()
            except Exception:
                self.front.log.failure("{call} could not be started", call=self.describe())
                self.fault()

    def data(self, data: bytes, end: bool) -> bool:
        """A piece of the request. See ``http2.contract``."""
        if self._state >= ENDED:
            return True
        self._half_closed = end
        try:
            if end and self._inbox is None and len(data) >= SIZE:
                flag, length = PREFIX.unpack_from(data)
                if not flag and length == len(data) - SIZE:
                    # Most calls: one message, in one piece.
                    self._only(data[SIZE:])
                    return True
            inbox = self._inbox
            if inbox is None:
                inbox = self._inbox = Inbox(self.front.max_receive, self.derived.gzip_in)
            inbox.feed(data)
            self._pump(inbox)
        except Refusal as refusal:
            self.refuse(refusal)
        if self._full:
            self._owed += len(data)
            return False
        return True

    def trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Clients of gRPC have none; those of others mean nothing."""
        self.data(b"", True)

    def room(self) -> None:
        """The call takes messages again."""
        if not self._full:
            return
        self._full = False
        owed, self._owed = self._owed, 0
        try:
            if self._inbox is not None and self._state < ENDED:
                self._pump(self._inbox)
        except Refusal as refusal:
            self.refuse(refusal)
        if self._full:
            self._owed += owed
        else:
            self._stream.consumed(owed)

    def _pump(self, inbox: Inbox) -> None:
        """Hand over the messages that are complete, as far as the call takes them."""
        while not self._full:
            message = inbox.next()
            if message is None:
                break
            self._take(message, self._half_closed and not inbox.size)
        if self._half_closed and not self._full:
            if inbox.size:
                raise Refusal(INTERNAL, "the request ends inside a message")
            self._complete()

    def _only(self, message: bytes) -> None:
        limit = self.front.max_receive
        if len(message) > limit:
            raise too_large(len(message), limit)
        if self._call is None:
            self._open()
        self.received += 1
        self._call.message(message, False, False)

    def _take(self, message: bytes, last: bool) -> None:
        self.received += 1
        if self._unary:
            if self._first is not None:
                raise self._one_too_many()
            self._first = message
            return
        if self._call is None:
            self._open()
        self._told = last
        self._full = not self._call.message(message, False, not last)

    def _one_too_many(self) -> Refusal:
        if self.derived.streams is False:
            return Refusal(INTERNAL, "a second message for a method that takes one")
        return Refusal(UNIMPLEMENTED, "the workers take one message a call: streaming is not supported")

    def _complete(self) -> None:
        """The client has sent everything."""
        if self._unary:
            if self._first is None:
                raise Refusal(INTERNAL, "a call without a message")
            if self._call is None:
                self._open()
            self._call.message(self._first, False, False)
            self._first = None
            return
        if self._call is None:
            self._open()
        if not self._told:
            self._told = True
            self._call.send(b"", False)

    def _open(self) -> None:
        front = self.front
        head: Any = self.derived
        if self.deadline:
            head = CallHead(head, front.seconds, self.deadline)
        if self.pool.mux:
            call = self._call = self.pool.open(head, b"", True, MuxReply(self))
            call.runs = True
            return
        reply: Any = UndecidedReply(self) if self.pool.debug else SingleReply(self)
        self._call = self.pool.open(head, b"", True, reply)

    # --------------------------------------------------------------------------------- the answer

    @property
    def answering(self) -> bool:
        """Its head was sent."""
        return self._state != WAITING

    @property
    def announced(self) -> int:
        """Bytes of a one-call worker's whole answer, -1 where it streams."""
        return int(getattr(self._call, "length", -1))

    def answer(self, metadata: Sequence[tuple[str, Any]]) -> None:
        """Send the head."""
        skipped: list[str] = []
        self._state = ANSWERING
        self._flow(self._stream.respond(answers.head(metadata, self.derived.gzip_out, skipped)))
        if skipped:
            self.skipped(skipped)

    def compresses(self, size: int) -> bool:
        """Whether a message of so many bytes is sent compressed."""
        return self.derived.gzip_out and size >= LEAST

    def message(self, message: bytes, more: bool) -> None:
        """Send a message; with *more* False the call ends with it, and is OK."""
        size = len(message)
        limit = self.front.max_send
        if size > limit:
            self.fail(too_large_to_send(size, limit), over=not more)
            return
        self.sent += 1
        self.size += size
        if not more and self._state == WAITING and not self.derived.gzip_out:
            # Most answers: nothing was sent before, and this is all of it.
            self.code = 0
            self._call = None
            self._state = ENDED
            self._stream.answer(answers.HEAD, PREFIX.pack(0, size) + message, answers.OK_END)
            return
        if self.compresses(size):
            packed = compress(message)
            data = PREFIX.pack(1, len(packed)) + packed
        else:
            data = framed(message)
        if more:
            self._send(data)
            return
        self.over(0)
        if self._state == WAITING:
            self._state = ENDED
            head = answers.HEAD_GZIP if self.derived.gzip_out else answers.HEAD
            self._stream.respond(head, data, trailers=answers.OK_END)
        else:
            self._stream.send(data)
            self.end(answers.OK_END)

    def messages(self, run: list[bytes]) -> None:
        """Send messages that came together, and are not the last."""
        limit = self.front.max_send
        if self.derived.gzip_out or max(map(len, run)) > limit:
            for message in run:
                if self._call is not None:
                    self.message(message, True)
            return
        pieces: list[bytes] = []
        size = -1
        prefix = b""
        for message in run:
            if len(message) != size:
                size = len(message)
                prefix = PREFIX.pack(0, size)
            pieces += (prefix, message)
        data = b"".join(pieces)
        self.sent += len(run)
        self.size += len(data) - SIZE * len(run)
        self._send(data)

    def begin_message(self, size: int) -> None:
        """A message of *size* bytes follows, by `piece`."""
        self.sent += 1
        self.size += size
        self._left = size
        self._send(PREFIX.pack(0, size))

    def piece(self, data: bytes) -> None:
        """A part of it."""
        self._left -= len(data)
        self._send(data)

    def _send(self, data: bytes) -> None:
        if self._state == WAITING:
            self._state = ANSWERING
            head = answers.HEAD_GZIP if self.derived.gzip_out else answers.HEAD
            self._flow(self._stream.respond(head, data))
        else:
            self._flow(self._stream.send(data))

    def _flow(self, flows: bool) -> None:
        # The waker is `writable`.
        if not flows and self._call is not None:
            self._call.pauseProducing()

    def writable(self) -> None:
        """The client takes again."""
        if self._call is not None:
            self._call.resumeProducing()

    def over(self, code: int) -> None:
        """The worker has ended the call."""
        self.code = code
        self._call = None

    def finish(self, status: Status, trailers: Sequence[tuple[str, Any]] = ()) -> None:
        """End the answer with *status*."""
        if self._state >= ENDED:
            return
        self.code = status.code
        if self._left:
            # In the middle of a message there is no place for a status.
            self._break_off()
            return
        skipped: list[str] = []
        if self._state == WAITING:
            self.end(answers.alone(status, trailers, skipped))
        else:
            self.end(answers.end(status, trailers, skipped))
        if skipped:
            self.skipped(skipped)

    def end(self, block: Block) -> None:
        """The same with what was made before: an answer in itself where nothing was sent, else trailers."""
        was, self._state = self._state, ENDED
        if was == WAITING and block is not answers.OK_END:
            self._stream.respond(block, end=True)
        elif was == WAITING:
            self._stream.respond(answers.HEAD, trailers=block)
        else:
            self._stream.trailers(block)

    def fail(
        self,
        status: Status,
        headers: Sequence[tuple[str, Any]] = (),
        trailers: Sequence[tuple[str, Any]] = (),
        over: bool = False,
    ) -> None:
        """End the call with *status*, whatever its worker still sends; *over*: it sends nothing more."""
        if over:
            self._call = None
        self._give_up("client")
        if headers and self._state == WAITING:
            self.answer(headers)
        self.finish(status, trailers)

    def refuse(self, refusal: Refusal) -> None:
        """The client's fault."""
        self._give_up("client")
        self.front.log.debug("{call}: {reason}", call=self.describe(), reason=refusal.message)
        if self._state != WAITING:
            self.finish(Status(refusal.code, refusal.message))
            return
        self.code = refusal.code
        self.end(answers.refusal(refusal, isinstance(refusal, UnknownEncoding)))

    def failed(self, error: Exception) -> None:
        """The call ended without a complete answer. One that was given up here is known already."""
        call, self._call = self._call, None
        if call is None:
            return
        mux = bool(self.pool.mux)
        # A mux call has its id once its open was handed over.
        started = getattr(call, "worker", None) is not None and (not mux or call.id != 0)
        self.front.failed(self, error)
        self.finish(of_failure(error, mux, started))

    def skipped(self, keys: Sequence[str]) -> None:
        """Metadata of the application's that cannot be sent."""
        self.front.log.warn(
            "{call}: metadata that cannot be sent is left out: {keys}",
            call=self.describe(),
            keys=", ".join(repr(key[:100]) for key in keys),
        )

    def _break_off(self) -> None:
        self.cut = True
        self._stream.reset(INTERNAL_ERROR)
        self._gone(lost=True)

    def _give_up(self, reason: str) -> None:
        """Nobody waits for the call any more. It tells `failed` before this returns, which finds no call."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel(reason)

    # --------------------------------------------------------------------------- how it is over

    def closed(self) -> None:
        """The kernel has the whole answer."""
        if self._state == ENDED and self._tick < 0 and self._call is None:
            # Most calls: nothing is left to be undone.
            self._state = OVER
            self.front.over(self, False)
        else:
            self._gone(lost=False)

    def reset(self, code: int) -> None:
        """The client gave up, or is gone."""
        if self._state < ENDED:
            self.code = UNAVAILABLE if self.cut else CANCELLED
        self._gone(lost=True)

    def _gone(self, lost: bool) -> None:
        if self._state == OVER:
            return
        self._state = OVER
        self._inbox = None
        self._first = None
        if self._tick >= 0:
            self.front.deadlines.discard(self, self._tick)
        self._give_up("client")
        self.front.over(self, lost)

    # --------------------------------------------------------------------------- from the front

    def expire(self) -> None:
        """The client's deadline has come."""
        self._tick = -1
        if self._state < ENDED:
            self._give_up("deadline")
            self.finish(Status(DEADLINE_EXCEEDED, "Deadline Exceeded"))

    def fault(self) -> None:
        """The server itself failed."""
        self._give_up("client")
        self.finish(Status(INTERNAL, "the server failed"))

    def turn_away(self) -> None:
        """It came too late (``drain.late_reject_after``): elsewhere it will be served."""
        self.refused = True
        self.finish(STOPPING)

    def hurry(self) -> None:
        """The deadline of the stop has come."""
        if self._state >= ENDED:
            return
        self.cut = True
        self._give_up("drain")
        age = self.front.seconds() - self.since
        text = f"the server is stopping and its time is over: the call was cut after {age:.1f} s"
        self.finish(Status(UNAVAILABLE, text))

    def let_go(self) -> None:
        """Nobody waits for what the client has not taken by now."""
        self.cut = True
        self._gone(lost=True)


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
