"""What servers of calls on an asyncio loop have in common: an end, its relay, and the way out.

What a call does is said by subclasses: `asgi` and `handlers`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, Final, Protocol

from twisted_rr.wire.mux_settings import MuxSettings
from twisted_rr.wire.mux_worker import MuxWorkerEnd
from twisted_rr.worker.descriptors import Relay
from twisted_rr.worker.loop import RelayLoop
from twisted_rr.worker.signals import HEARD
from twisted_rr.worker.single import SingleWorkerEnd

EAGER: Final = sys.version_info >= (3, 12)
_task: Any = asyncio.Task  # whose arguments depend on Python's version


class LoopCall(Protocol):
    """One open call."""

    task: asyncio.Task[None] | None
    gone: bool

    def cancelled(self, reason: str) -> None:
        """Nobody waits for the answer any more."""


class LoopServer:
    """The calls of one relay, each with a task. *settings* is None for one call at a time.

    :ivar mux: whether the relay carries several calls.
    :ivar end: the worker's end of the relay.
    :ivar loop: where everything runs.
    :ivar finished: resolves when nothing is left to do: to "" in good order, else to the reason.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, relay: Relay, settings: MuxSettings | None) -> None:
        self.loop = loop
        self.mux = settings is not None
        self.end: Any = SingleWorkerEnd(self) if settings is None else MuxWorkerEnd(self, settings)
        self.finished: asyncio.Future[str] = loop.create_future()
        self._relay = RelayLoop(relay, loop, self)
        self._calls: set[LoopCall] = set()
        self._finishing = False
        self._unheard = False  # it goes, and the server may not know

    def start(self, rest: bytes) -> None:
        """Serve; *rest* was read with the handshake."""
        self._relay.start(self.end, rest)

    def begin(
        self,
        call: LoopCall,
        coroutine: Coroutine[Any, Any, None],
        context: Context | None,
        eager: bool = False,
    ) -> None:
        """Run *coroutine* for *call* in a task of its own; it must call `over` at its end.

        With *eager* its first step is taken at once, where Python can (3.12): a coroutine that waits for
        nothing never sees the loop's queue.
        """
        self._calls.add(call)
        # Not loop.create_task, which does the same in Python and costs a microsecond more.
        if eager and EAGER:
            task = _task(coroutine, loop=self.loop, context=context, eager_start=True)
            if not task.done():
                call.task = task
        else:
            call.task = asyncio.Task(coroutine, loop=self.loop, context=context)

    def cancel(self, call: LoopCall) -> None:
        """Cancel the task of *call*: once it has begun, because else its coroutine could not say `over`."""
        if call.task is not None:
            self.loop.call_soon(call.task.cancel)

    def over(self, call: LoopCall) -> None:
        """The task of *call* has done its work."""
        call.task = None
        self._calls.discard(call)
        if self._finishing:
            self._relay.schedule()  # which ends in flushed()

    # ------------------------------------------------------------------ what the end tells

    def dirty(self) -> None:
        """See `MuxWorkerOwner.dirty`."""
        self._relay.schedule()

    def opened(self, stream: Any, codec: int, context: bytes, body: bytes, more: bool) -> None:
        """See `MuxWorkerOwner.opened`."""
        raise NotImplementedError

    def said(self, message: dict[str, Any]) -> None:
        """``stop`` ends this worker after its calls; ``draining`` is passed on."""
        if message.get("stop"):
            self._unheard = False
            self.finish()
        elif "draining" in message:
            self.draining(message["draining"])

    def draining(self, times: Any) -> None:
        """The server drains; *times* says how long (`draining.Deadline.told`). Nothing needs to be done."""

    # ------------------------------------------------------------------------- the way out

    def finish(self) -> None:
        """Take no new call; `finished` resolves after the open ones. Idempotent."""
        self._finishing = True
        self.end.stopping = True
        for call in self._calls:
            if call.gone:
                self.cancel(call)  # its grace is over: nobody waits for it
        self._relay.schedule()

    def terminate(self) -> None:
        """For SIGTERM: as `finish`, and the server is told. What it sends before it knows is given back."""
        if self._finishing:
            return
        self._unheard = True
        if self.mux:
            self.end.control({"retire": True})
            self.loop.call_later(HEARD, self._heard)  # said() may come before
        self.finish()

    def _heard(self) -> None:
        self._unheard = False
        self._relay.schedule()

    def flushed(self) -> None:
        """See `RelayOwner.flushed`."""
        if not self._finishing or self._calls or self.end.streams or self.finished.done():
            return
        if not self._unheard:
            self.finished.set_result("")
        elif not self.mux:
            self._unheard = False
            self.end.retire()

    def lost(self, reason: str) -> None:
        """The server is no more, so nobody waits for any answer."""
        for call in list(self._calls):
            call.cancelled("client")
            self.cancel(call)
        if not self.finished.done():
            self.finished.set_result(reason or "the server has closed the relay")

    def close(self) -> bool:
        """Leave the relay; whether it was over already."""
        gone = self._relay.over
        self._relay.close()
        return gone
