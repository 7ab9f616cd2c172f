"""One call for the workers: from its complete head to the last byte of its answer taken by the kernel.

It stands between a stream and a pool's call, and carries messages both ways with back-pressure. `GrpcFront` makes
it, `reply` says what the worker meant. Left out: frames (`twisted_rr.http2`), placing (`twisted_rr.pool`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from twisted_rr.errors import ApplicationError
from twisted_rr.http2.blocks import Block
from twisted_rr.http2.codes import INTERNAL_ERROR
from twisted_rr.wire.grpc_status import INTERNAL

from . import answers
from .compression import LEAST, compress
from .fitting import NO_LIMIT
from .framing import PREFIX, SIZE, framed, sole
from .head import CallHead, Derived, UnknownEncoding, derive
from .reply import MuxReply, SingleReply, UndecidedReply
from .reply import too_large as too_large_to_send
from .status import (
    CANCELLED,
    DEADLINE_EXCEEDED,
    RESOURCE_EXHAUSTED,
    UNAVAILABLE,
    Refusal,
    Status,
    name,
    of_failure,
)
from .upload import Upload

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
    :ivar answered: a worker told that.
    :ivar sent: messages to the client; ``received`` those of the client.
    :ivar size: bytes of the answer's messages.
    :ivar cut: the server broke it off.
    :ivar refused: it was turned away because the server stops.
    """

    __slots__ = (
        "_call", "_left", "_state", "_stream", "_tick", "_upload", "answered", "code", "cut", "deadline", "derived", "front", "pool",
        "received", "refused", "sent", "since", "size",
    )  # fmt: skip

    def __init__(self, front: GrpcFront, stream: Stream, derived: Derived, timeout: float) -> None:
        self.front = front
        self.derived = derived
        routes = front.routes
        pool: Any = front.pool if routes is None else routes.pool(derived.service)
        self.pool = pool
        self.since: float = front.seconds()
        self.deadline = self.since + timeout if timeout else 0.0
        self.code = -1
        self.answered = False
        self.cut = False
        self.refused = False
        self.sent = 0
        self.received = 0
        self.size = 0
        self._stream = stream
        self._state = WAITING
        self._call: Any = None
        self._tick = -1
        self._upload: Upload | None = None  # the request, unless it came whole with its head
        self._left = 0  # of a message of the answer that is sent in pieces

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
        upload = self._upload = Upload(self)
        if end:
            self.data(b"", True)
        elif not upload.unary:
            # Messages that came with the head open the call. The waker when none did: `flush`, this turn.
            self.front.openings.add(self)

    def whole(self, data: bytes) -> None:
        """The head, and all of the request with it."""
        if self.deadline:
            self._tick = self.front.deadlines.add(self, self.deadline)
        message = sole(data, self.front.max_receive)
        if message is not None:
            # Most calls.
            self.received = 1
            if self.pool.mux or self.pool.debug:
                self.open().message(message, False, False)
            else:
                self.open(message, False)
            return
        self._upload = Upload(self)
        self.data(data, True)

    def flush(self) -> None:
        """The turn ends: a worker may speak first, and the client wait for that."""
        upload = self._upload
        if upload is None or upload.half_closed or self._call is not None or self._state != WAITING:
            return
        try:
            upload.open()
        except Exception:
            self.broken()

    def data(self, data: bytes, end: bool) -> bool:
        """A piece of the request. See ``http2.contract``."""
        upload = self._upload
        if self._state >= ENDED or upload is None:
            return True
        try:
            return upload.feed(data, end)
        except Refusal as refusal:
            self.refuse(refusal)
        except Exception:
            self.broken()
        return True

    def trailers(self, fields: list[tuple[bytes, bytes]]) -> None:
        """Clients of gRPC have none; those of others mean nothing."""
        self.data(b"", True)

    def room(self) -> None:
        """The call takes messages again."""
        upload = self._upload
        if upload is None or self._state >= ENDED:
            return
        try:
            self._stream.consumed(upload.room())
        except Refusal as refusal:
            self.refuse(refusal)

    def open(self, body: bytes = b"", more: bool = True) -> Any:
        """Give the call to the pool; *body* is the message for a one-call worker, where it is there already."""
        head: Any = self.derived
        if self.deadline:
            head = CallHead(head, self.front.seconds, self.deadline)
        pool = self.pool
        if pool.mux:
            call = self._call = pool.open(head, b"", True, MuxReply(self))
            call.runs = True
            return call
        reply: Any = UndecidedReply(self) if pool.debug else SingleReply(self)
        call = self._call = pool.open(head, body, more, reply)
        return call

    # --------------------------------------------------------------------------------- the answer

    @property
    def answering(self) -> bool:
        """Its head was sent."""
        return self._state != WAITING

    @property
    def announced(self) -> int:
        """Bytes of a one-call worker's whole answer, -1 where it streams."""
        return int(getattr(self._call, "length", -1))

    @property
    def limit(self) -> int:
        """The largest head that the client takes (RFC 9113 section 6.5.2), as far as it has told one."""
        told: int = self._stream.session.intake.control.peer.header_list
        return told if told >= 0 else NO_LIMIT

    def answer(self, metadata: Sequence[tuple[str, Any]]) -> bool:
        """Send the head. False: the client does not take so much, which has ended the call."""
        if self._answer(metadata):
            return True
        self.fail(Status(RESOURCE_EXHAUSTED, "the initial metadata is more than the client takes"))
        return False

    def _answer(self, metadata: Sequence[tuple[str, Any]]) -> bool:
        skipped: list[str] = []
        head = answers.head(metadata, self.derived.gzip_out, skipped, self.limit)
        if skipped:
            self.skipped(skipped)
        if head is None:
            self._does_not_fit("the initial metadata")
            return False
        self._state = ANSWERING
        self._flow(self._stream.respond(head))
        return True

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
        largest = max(map(len, run))
        if largest > limit or self.compresses(largest):
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
        self.answered = True
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
        waiting = self._state == WAITING
        block, self.code, cut = answers.ending(status, trailers, skipped, waiting, self.limit)
        self.end(block)
        if skipped:
            self.skipped(skipped)
        if cut:
            self._does_not_fit(cut, status)

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
        """End the call with *status* because of what its worker answered, whatever that still sends; *over*: it sends
        nothing more."""
        self.answered = True
        if over:
            self._call = None
        self._give_up("client")
        if headers and self._state == WAITING:
            self._answer(headers)
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
        self.answered = isinstance(error, ApplicationError)
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

    def _does_not_fit(self, what: str, status: Status | None = None) -> None:
        """*what* is more than the client takes, or than any should be sent, and is in the log instead."""
        told = f" ({name(status.code)}: {status.message})" if status is not None and status.message else ""
        self.front.log.warn(
            "{call}: {what} did not fit in what its client takes{told}",
            call=self.describe(),
            what=what,
            told=told,
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
        if self._state == ENDED and self._call is None:
            # Most calls: nothing is left to be undone.
            if self._tick >= 0:
                self.front.deadlines.discard(self, self._tick)
            self._state = OVER
            self._upload = None
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
        self._upload = None
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

    def broken(self) -> None:
        """The server itself failed, by the exception that is handled now: that ends the call, and no other of its
        connection."""
        self.front.log.failure("{call} could not be started", call=self.describe())
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


def begin_whole(front: GrpcFront, session: Any, stream: Any, head: Any, content: bytes) -> Any:
    """The short way of most calls: see ``http2.contract``. Here, because it is on the path of each of them."""
    judged = head.derived
    if judged is None:
        judged = head.derived = derive(front, front.connections[session], head)
    derived, timeout = judged
    if not derived.served or front.draining:
        exchange = front.begin(session, stream, head, False)
        exchange.data(content, True)
        return exchange
    whole = Exchange(front, stream, derived, timeout)
    front.in_flight.begin(whole)
    try:
        whole.whole(content)
    except Exception:
        # The session does not know the exchange yet: nobody else would ever end it.
        whole.broken()
    return whole
