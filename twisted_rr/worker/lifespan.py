"""The lifespan of an ASGI application: its startup before the handshake, its shutdown at the end.

Requests are `exchange`'s. An application that knows no lifespan is served without one.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

from twisted_rr.errors import RRError
from twisted_rr.worker.draining import Deadline
from twisted_rr.worker.report import say
from twisted_rr.worker.scope import ASGI

DRAINING = "twisted_rr.draining"
"""Key of a `Draining` in ``scope["state"]``, set when the server begins to drain."""


class Draining(Deadline, asyncio.Event):
    """An asyncio.Event that also knows the deadline: ``deadline``, ``remaining()``."""


class LifespanFailed(RRError):
    """The application said that it cannot start: its fault, and its message."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"the application failed to start: {self.message or 'it gave no message'}"


class Lifespan:
    """One lifespan, run in a task of its own.

    :ivar state: what requests get a copy of; the application fills it during startup.
    :ivar context: the context the application's lifespan runs in; each request starts from a copy
        of it, so that context variables set during startup are seen.
    """

    def __init__(self, application: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._application = application
        self._loop = loop
        self.context = contextvars.copy_context()
        self.draining = Draining()
        self.state: dict[str, Any] = {DRAINING: self.draining}
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._startup: asyncio.Future[str | None] = loop.create_future()
        self._shutdown: asyncio.Future[str | None] = loop.create_future()
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    async def startup(self) -> None:
        """Wait until the application has started, or has shown that it knows no lifespan.

        Raises LifespanFailed. There is no limit of time: the server has one (allocate_timeout).
        """
        self._events.put_nowait({"type": "lifespan.startup"})
        self._task = self._loop.create_task(self._run(), context=self.context)
        # woken by _send (complete, failed) or by the end of _run
        failure = await self._startup
        if failure is not None:
            await asyncio.wait({self._task}, timeout=1)
            raise LifespanFailed(failure)

    async def shutdown(self, timeout: float | None = None) -> None:
        """Tell the application to shut down and wait for it, *timeout* seconds at most."""
        task = self._task
        if task is None or task.done():
            return
        self._events.put_nowait({"type": "lifespan.shutdown"})
        # woken by the end of _run: an application cleans up after it said "complete", too
        _, late = await asyncio.wait({task}, timeout=timeout)
        if late:
            task.cancel()
            say(f"the application did not shut down within {timeout:g} s")
        elif self._shutdown.done() and (failure := self._shutdown.result()) is not None:
            say(f"the application failed to shut down: {failure or 'it gave no message'}")

    async def _run(self) -> None:
        scope = {"type": "lifespan", "asgi": ASGI.copy(), "state": self.state}
        error: BaseException | None = None
        try:
            await self._application(scope, self._receive, self._send)
        # Whatever it raises: an application without lifespan often raises on its scope's type.
        except BaseException as raised:
            error = raised
        started = self._startup.done()
        if not started:
            self._startup.set_result(None)
            self._unsupported(error)
        elif error is not None and self._startup.result() is None and not self._shutdown.done():
            say(f"the application's lifespan ended early: {type(error).__name__}: {error}")

    def _unsupported(self, error: BaseException | None) -> None:
        """Served all the same (ASGI lifespan, "Scope"); said only when the application had begun to take part."""
        if self._asked and error is not None:
            say(f"served without a lifespan, as the application raised {type(error).__name__}: {error}")

    async def _receive(self) -> dict[str, Any]:
        self._asked = True
        # woken by startup() and shutdown()
        return await self._events.get()

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        step, _, outcome = kind.rpartition(".")
        future = {"lifespan.startup": self._startup, "lifespan.shutdown": self._shutdown}.get(step)
        if future is None or outcome not in ("complete", "failed"):
            raise RuntimeError(f"a lifespan sends no {kind!r}")
        if future.done():
            raise RuntimeError(f"the application sent {kind!r} although its {step} was over")
        future.set_result(None if outcome == "complete" else str(message.get("message", "")))
