"""A pool without workers: the test answers each call itself.

It keeps the contract of `IWorkerPool` and `ICall` (one terminal callback, back-pressure, nothing before
``open`` returned) and checks the caller's side of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from twisted_rr.errors import Cancelled, FrameError, PoolError
from twisted_rr.interfaces import ICall, IHealth, IWorkerPool
from twisted_rr.pool.rolling import ResetReport


@implementer(ICall)
class FakeCall:
    """A call as the worker's side sees it.

    What the front sent: ``pieces`` (the pieces of the body, in order; ``body`` joins them), ``complete``
    (the end was sent), ``cancelled`` (its reason or None), ``paused``. ``room`` is what ``send`` answers.
    The test answers with `answer`, `head`, `data`, `message`, `fail`, `drained`.
    """

    def __init__(self, head: Any, to: Any) -> None:
        self.call_head = head
        self.to = to
        self.pieces: list[bytes] = []
        self.complete = False
        self.trailer: Callable[[int], bytes] | None = None
        self.cancelled: str | None = None
        self.paused = False
        self.room = True
        self.ended = False

    # ------------------------------------------------------------------ the front's side

    def send(self, data: bytes, more: bool) -> bool:
        if self.ended:
            return True
        assert not self.complete, "send() after the body's end"
        self.take(data, more)
        return self.room

    def finish(self, trailer: Callable[[int], bytes]) -> None:
        """End the body with a context; ``trailer`` keeps what makes it for a codec."""
        if not self.ended:
            self.trailer = trailer
            self.complete = True

    def cancel(self, reason: str) -> None:
        if self.ended:
            return
        self.cancelled = reason
        self.fail(Cancelled(reason))

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False

    def stopProducing(self) -> None:
        self.cancel("client")

    # ------------------------------------------------------------------ the worker's side

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def context(self, codec: int) -> bytes:
        """The context a mux worker would get."""
        return bytes(self.call_head.mux_context(codec))

    def take(self, data: bytes, more: bool) -> None:
        if data:
            self.pieces.append(data)
        self.complete = not more

    def head(self, codec: int, context: bytes, body: bytes = b"", more: bool = True) -> None:
        """Answer with a context frame."""
        self._before(more)
        self.to.context(codec, context, body, more)

    def answer(self, codec: int, context: bytes, body: bytes = b"") -> None:
        """Answer with one complete frame."""
        self.head(codec, context, body, more=False)

    def data(self, body: bytes, more: bool = True) -> None:
        """Answer with a piece of the body."""
        self._before(more)
        self.to.data(body, more)

    def message(self, body: bytes, text: bool = False, more: bool = True) -> None:
        """Answer with a whole message."""
        self._before(more)
        self.to.message(body, text, more)

    def fail(self, error: PoolError | FrameError) -> None:
        """End the call with *error*."""
        self._before(False)
        self.to.failed(error)

    def drained(self) -> None:
        """There is room again for what the front holds back."""
        self.room = True
        self.to.writable()

    def _before(self, more: bool) -> None:
        assert not self.ended, "the call has ended already"
        self.ended = not more


@implementer(IHealth)
class FakeHealth:
    """Health whose answers the test sets: ``not_alive``, ``not_ready`` (text, or None for good)."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.not_alive: str | None = None
        self.not_ready: str | None = None

    def alive(self) -> str | None:
        return self.not_alive

    def ready(self) -> str | None:
        return self.not_ready


@implementer(IWorkerPool)
class FakePool(Service):
    """``calls`` has every call opened, in order; ``open_calls`` those that have not ended.

    ``refuse`` set to an error: every call ends with it when `settle` is called, as a pool that has no
    worker does. ``start`` and ``stop`` are Deferreds to fire for `ready` and ``stopService``; None: at once.
    """

    def __init__(self, name: str = "http", mux: bool = True) -> None:
        self.name = name
        self.mux = mux
        self.calls: list[FakeCall] = []
        self.refuse: PoolError | None = None
        self.start: Deferred[None] | None = None
        self.stop: Deferred[None] | None = None
        self.resets = 0
        self.told: ResetReport | Exception = ResetReport()
        self.shed = 0
        self.debug = False
        self.max_message = 0
        self.size = 1
        self.health = FakeHealth(name)

    @property
    def open_calls(self) -> list[FakeCall]:
        return [call for call in self.calls if not call.ended]

    @property
    def last(self) -> FakeCall:
        return self.calls[-1]

    def open(self, head: Any, body: bytes, more: bool, to: Any) -> FakeCall:
        call = FakeCall(head, to)
        call.take(body, more)
        self.calls.append(call)
        return call

    def template(self) -> Any:
        return None

    def settle(self) -> None:
        """What the pool does in a later reactor turn: refuse what it cannot place."""
        if self.refuse is not None:
            for call in self.open_calls:
                call.fail(self.refuse)

    def ready(self) -> Deferred[None]:
        return self.start if self.start is not None else succeed(None)

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return self.stop if self.stop is not None else succeed(None)

    def workers(self) -> Sequence[Any]:
        return []

    def counts(self) -> tuple[int, int]:
        return self.size, self.size

    def waiting(self) -> int:
        return 0

    def waited(self) -> float:
        return 0.0

    def reset(self) -> Deferred[None]:
        self.resets += 1
        return succeed(None)

    def replace(self) -> Deferred[ResetReport]:
        """``told`` is what the reset tells, or an exception."""
        self.resets += 1
        return fail(self.told) if isinstance(self.told, Exception) else succeed(self.told)

    def grow(self, count: int) -> Deferred[None]:
        self.size += count
        return succeed(None)

    def shrink(self, count: int) -> Deferred[None]:
        self.size = max(1, self.size - count)
        return succeed(None)

    def hurry(self) -> None:
        for call in self.open_calls:
            call.fail(Cancelled("drain"))
