"""The start of a pool: all its first workers answer, or none is left; whoever waits for that is told.

What happens to workers that are started later is the crew's affair.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from twisted_rr.errors import WorkerStartError
from twisted_rr.pool.rolling import all_of

if TYPE_CHECKING:
    from twisted_rr.pool.pool import WorkerPool


class Starting:
    """Starts *pool*, again after each stop.

    :ivar error: why the last start failed.
    """

    def __init__(self, pool: WorkerPool, prepare: Callable[[], Awaitable[Any]] | None) -> None:
        """*prepare* is awaited before workers are started."""
        self.error: WorkerStartError | None = None
        self._pool = pool
        self._prepare = prepare
        self._number = 0  # of starts that a stop ended
        self._waiters: list[Deferred[None]] = []

    def begin(self, count: int) -> None:
        """Start *count* workers; 0: one, to see whether that works."""
        self.error = None
        self._pool.crew.starting = True
        Deferred.fromCoroutine(self._start(count, self._number))

    async def _start(self, count: int, number: int) -> None:
        """The first that does not start ends the start, and a stop ends *number*."""
        crew = self._pool.crew
        try:
            if self._prepare is not None:
                await self._prepare()
            if number != self._number:
                return
            made = crew.begin(count, count or 1)
            await all_of([worker.when_ready() for worker in made])
        except Exception as error:
            if number == self._number:
                await self._undo(error, number)
            return
        if number == self._number:
            crew.begun()
            self._tell()

    async def _undo(self, error: Exception, number: int) -> None:
        crew = self._pool.crew
        await crew.kill()
        if number != self._number:
            return
        crew.begun()
        if not isinstance(error, WorkerStartError):
            error = WorkerStartError(str(self._pool.name), f"{type(error).__name__}: {error}")
        self.error = error
        self._tell()

    def abandon(self) -> None:
        """A stop came first. The pool may have started again before the start that is over hears of it."""
        self._number += 1
        self._pool.crew.begun()
        self.error = WorkerStartError(str(self._pool.name), "the pool was stopped while it started")
        self._tell()

    def _tell(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            self._tell_one(waiter)

    def _tell_one(self, waiter: Deferred[None]) -> None:
        if self.error is not None:
            waiter.errback(self.error)
        else:
            waiter.callback(None)

    def over(self) -> Deferred[None]:
        """Fires when all workers answered, or fails with WorkerStartError; a start that is over is told at once."""
        waiter: Deferred[None] = Deferred()
        if self._pool.crew.starting or not self._pool.running:
            self._waiters.append(waiter)
        else:
            self._tell_one(waiter)
        return waiter
