"""The calls that wait for a worker: first come, first served, so many at most, so long at most, shorter in overload.

Which worker a call gets is the pool's affair, and so is a body that is still being collected.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from twisted_rr.errors import ApplicationError, Cancelled, PoolError

STANDING: Final = 10
"""A queue that was not empty for its whole *age* is overloaded: then calls wait this part of it at most."""


class Waiting:
    """A queue of calls. ``expired(call)`` is called for each that waited *limit* seconds; it has left by then.
    ``size`` is how many there are, an attribute because every call of the pool looks at it.

    With an *age*, ``shed(call)`` is called for each that waited that long; and where the queue has not been empty
    for that long, so that it only makes everybody late, for each that waited a tenth of it when a worker gets free
    (the rule of CoDel, for a queue of calls). The last one that waits is never shed by that: a worker is free.
    It may be called within `take`, and must not touch the queue then.

    Calls that come back from a worker go before all others (`put_first`): they have waited once.
    """

    __slots__ = (
        "_age",
        "_clock",
        "_expired",
        "_first",
        "_limit",
        "_others",
        "_shed",
        "_since",
        "_timer",
        "size",
    )

    def __init__(
        self,
        clock: Any,
        limit: float,
        expired: Callable[[Any], None],
        age: float = 0.0,
        shed: Callable[[Any], None] | None = None,
    ) -> None:
        """*age* 0: nothing is shed."""
        self._clock = clock
        self._expired = expired
        self._shed = expired if shed is None else shed
        self._age = age if 0.0 < age < limit else 0.0
        self._limit = self._age or limit
        self._since = 0.0
        # Each is ordered by deadline, because every call waits equally long.
        self._first: OrderedDict[Any, float] = OrderedDict()
        self._others: OrderedDict[Any, float] = OrderedDict()
        self._timer: Any = None
        self.size = 0

    def put(self, call: Any) -> None:
        """*call* is the last one."""
        self._put(self._others, call)

    def put_first(self, call: Any) -> None:
        """*call* was with a worker that could not run it."""
        self._put(self._first, call)

    def _put(self, queue: OrderedDict[Any, float], call: Any) -> None:
        now = self._clock.seconds()
        if not self.size:
            self._since = now
        queue[call] = now + self._limit
        self.size += 1
        if self._timer is None:
            self._timer = self._clock.callLater(self._limit, self._expire)

    def limit_to(self, limit: float, age: float = 0.0) -> None:
        """From now on calls wait at most so long; those that wait already, counted from when they came."""
        self._age = age if 0.0 < age < limit else 0.0
        seconds = self._age or limit
        change, self._limit = seconds - self._limit, seconds
        for queue in (self._first, self._others):
            for call in queue:
                queue[call] += change
        if change and self._timer is not None:
            self._timer.cancel()
            self._timer = self._clock.callLater(0, self._expire)

    def take(self) -> Any | None:
        """The call that waited longest, of those that have not waited too long; None when there is none."""
        if self._age and self.size > 1:
            self._relieve()
        queue = self._first or self._others
        if not queue:
            return None
        call, _ = queue.popitem(last=False)
        self.size -= 1
        if not self.size:
            self._rest()
        return call

    def _relieve(self) -> None:
        """Shed from a queue that stands."""
        now = self._clock.seconds()
        if now - self._since <= self._age:
            return
        # What came before this moment has waited a tenth of the age.
        latest = now + self._age - self._age / STANDING
        others = self._others
        while self.size > 1 and others and next(iter(others.values())) <= latest:
            self.size -= 1
            self._shed(others.popitem(last=False)[0])

    def discard(self, call: Any) -> bool:
        """*call* was given up; True when it was here."""
        found = self._others.pop(call, None) is not None or self._first.pop(call, None) is not None
        if found:
            self.size -= 1
            if not self.size:
                self._rest()
        return found

    def take_all(self) -> list[Any]:
        """Everything, in order; the queue is empty then."""
        calls = [*self._first, *self._others]
        self._first.clear()
        self._others.clear()
        self.size = 0
        self._rest()
        return calls

    def oldest(self) -> float:
        """Seconds that the first one has waited; 0 when none waits."""
        deadlines = [next(iter(queue.values())) for queue in (self._first, self._others) if queue]
        return self._limit - (min(deadlines) - self._clock.seconds()) if deadlines else 0.0

    def _rest(self) -> None:
        """No timer while nothing waits: it would keep an idle reactor awake."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        late = []
        for queue in (self._first, self._others):
            while queue and next(iter(queue.values())) <= now:
                late.append(queue.popitem(last=False)[0])
        self.size -= len(late)
        deadlines = [next(iter(queue.values())) for queue in (self._first, self._others) if queue]
        if deadlines:
            self._timer = self._clock.callLater(max(0.0, min(deadlines) - now), self._expire)
        tell = self._shed if self._age else self._expired
        for call in late:
            tell(call)


class Lobby:
    """The place of a call that waits for a worker: its body stays queued in the call, with back-pressure.

    ``left(call)`` is called when it is cancelled here. Its waker is the pool, which opens it at a worker's end.
    """

    __slots__ = ("_left",)

    def __init__(self, left: Callable[[Any], None]) -> None:
        self._left = left

    def pump(self, call: Any) -> None:
        """Nothing is sent before a worker is there."""

    def resume(self, call: Any) -> None:
        """There is no answer yet."""

    def cancel(self, call: Any, reason: str) -> None:
        call.cancelled = True
        self._left(call)
        call.fail(Cancelled(reason))


class Collecting(Lobby):
    """The place of a call for a one-call worker while its body comes: it is spooled, never held up.

    ``complete(call)`` is called once the body is there, ``failed(call, error)`` when it cannot be taken: the call
    may still be inside ``open``, so its receiver is told later.
    """

    __slots__ = ("_complete", "_failed")

    def __init__(
        self,
        left: Callable[[Any], None],
        complete: Callable[[Any], None],
        failed: Callable[[Any, Exception], None],
    ) -> None:
        super().__init__(left)
        self._complete = complete
        self._failed = failed

    def pump(self, call: Any) -> None:
        try:
            for piece in call.queue:
                call.spool.write(piece if isinstance(piece, bytes) else piece.data)
            if not call.more:
                call.spool.finish()  # what the spool makes of the body may be refused: here, not at a worker
        except OSError as full:
            self._left(call)
            self._failed(call, ApplicationError(f"the body cannot be stored: {full.strerror}"))
            return
        except PoolError as error:
            self._left(call)
            self._failed(call, error)
            return
        call.drop()
        if not call.more:
            self._complete(call)
