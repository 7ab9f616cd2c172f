"""One call as the server's side holds it, for mux and for one-call workers alike.

It keeps the body that no frame has taken yet and the state of the exchange. How bytes become frames
belongs to the end it is placed at: `MuxServerEnd`, `SingleServerEnd`, or the pool's queue while it waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted_rr.errors import NoFreeWorker
from twisted_rr.wire.flow import HIGH, MANY, Flow, Piece


class Refused(NoFreeWorker):
    """The worker gave the call back before it began, and it cannot be run again elsewhere."""

    def __init__(self) -> None:
        super().__init__(0.0)

    def __str__(self) -> str:
        return "the worker gave the call back and its body is no longer held"


class Place(Protocol):
    """Where a call is now: an end of a relay, or the queue of a pool."""

    def pump(self, call: Call) -> None:
        """*call* has more to send, or its body ended (``more`` is False)."""

    def cancel(self, call: Call, reason: str) -> None:
        """Give *call* up: set ``cancelled``, tell ``to.failed(Cancelled)`` before returning."""

    def resume(self, call: Call) -> None:
        """The answer may flow again: grant what was held back, or read on."""


class Call(Flow):
    """One call, from the opener's `send` to the worker and back; the `ICall` of interfaces.py.

    The pool makes it and sets *end*; the opener sets ``since``. Fields for the pool: ``worker``,
    ``retried``, ``spool``, ``since`` (monotonic seconds), and ``held``: the body given to the end's
    ``open`` for as long as nothing beyond it was framed and nothing was answered, that is while the
    call can be run again from the start; None afterwards. ``first`` is likewise the message that was
    framed with the open, where one was.

    :ivar more: False once the source has sent its last piece.
    :ivar ended: the receiver was told the end (or, cancelled, failed); nothing more happens.
    :ivar cancelled: given up by our side; a worker's terminal frame may still be due.
    :ivar answered: the worker sent anything but a refusal.
    :ivar runs: the receiver takes messages that came together by one ``messages(run)``, a list of bytes, each of them
        as by ``message(body, False, True)``. Its opener may set it.
    :ivar empties: messages without a byte that came so far. Workers of an older rule had them for nothing, and may
        therefore go beyond their credit by so many.
    :ivar length: bytes of the whole answer's body when the worker's frame told them, else -1.
    """

    __slots__ = (
        "head", "to", "end", "worker", "since", "retried", "spool", "held",
        "cancelled", "ended", "answered", "paused", "length", "first", "runs", "empties",
    )  # fmt: skip

    def __init__(self, head: Any, to: Any, end: Any) -> None:
        Flow.__init__(self, 0, 0, 0)  # the end fills them in
        self.head: Any = head
        self.to: Any = to
        self.end: Any = end
        self.worker: Any = None
        self.since = 0.0
        self.retried = False
        self.spool: Any = None
        self.held: bytes | None = None
        self.first: Piece | None = None
        self.runs = False
        self.cancelled = False
        self.ended = False
        self.answered = False
        self.paused = False
        self.empties = 0
        self.length = -1

    def send(self, data: bytes, more: bool) -> bool:
        """Send a piece of the body; False asks the source to wait for ``to.writable()``.

        The waker: the end calls ``writable`` when framing takes the queue under `flow.LOW`.
        """
        if self.ended or self.cancelled or not self.more:
            return True
        if data:
            self.queue.append(data)
            self.queued += len(data)
        return self._moved(more)

    def message(self, data: bytes, text: bool, more: bool) -> bool:
        """Send one whole message (WebSocket, gRPC); otherwise as `send`. For mux workers only."""
        if self.ended or self.cancelled or not self.more:
            return True
        self.queue.append(Piece(b"", data, True, text))
        self.queued += len(data)
        if not more:  # as `_moved`
            self.more = False
            self.end.pump(self)
            return True
        if self._moved(True) and len(self.queue) <= MANY:
            return True
        self.full = True
        return False

    def finish(self, trailer: Callable[[int], bytes]) -> None:
        """End the body with a context: trailers, or a WebSocket's close.

        *trailer* makes it for the codec of the worker, known only when the frame is built. A one-call
        worker has no frame for it and sees a plain end.
        """
        if self.ended or self.cancelled or not self.more:
            return
        self.trailer = trailer
        self._moved(False)

    def cancel(self, reason: str) -> None:
        """Give up: ``client``, ``deadline``, ``drain`` or ``timeout``. Does nothing once over."""
        if not self.ended and not self.cancelled:
            self.end.cancel(self, reason)

    def pauseProducing(self) -> None:
        """Hold the answer of this call: at most one window of it still comes."""
        self.paused = True

    def resumeProducing(self) -> None:
        """Let the answer go on."""
        if self.paused:
            self.paused = False
            if not self.ended and not self.cancelled:
                self.end.resume(self)

    def stopProducing(self) -> None:
        """For IPushProducer: the client is gone."""
        self.cancel("client")

    def fail(self, error: Exception) -> None:
        """Tell the receiver *error*, unless it was told an end already. For ends and pools."""
        if not self.ended:
            self.ended = True
            self.drop()
            self.to.failed(error)

    def restart(self) -> None:
        """Forget the placement that a worker refused, so that the call can be opened elsewhere."""
        self.id = 0
        self.answered = False
        self.active = False
        self.granting = False
        self.sent_end = False
        self.taken = 0
        if self.first is not None:
            self.queue.appendleft(self.first)
            self.queued += len(self.first.data)
            self.first = None

    def _moved(self, more: bool) -> bool:
        self.more = more
        self.end.pump(self)
        if self.queued <= HIGH or not more:
            return True
        self.full = True
        return False
