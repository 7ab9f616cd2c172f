"""The exchanges a front has accepted and not finished: a set of live items, never a counter.

A counter that is decremented twice, or never, ends a drain early or holds it to the deadline. What the
front does with an exchange is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import classImplements

from twisted_rr.interfaces import IInFlight


class InFlight:
    """An `IInFlight` on one clock; ``begin`` and ``end`` are on the path of every request.

    :ivar name: the protocol it counts: http, grpc, tcp, jobs.
    :ivar finished: how many ended with a complete answer, since the start.
    :ivar cut: how many were cut by the server, since the start.
    :ivar lost: how many were given up by their client, since the start.
    :ivar refused: how many were turned away because of the drain (`end_refused`, `refuse`).
    """

    __slots__ = ("_idle", "_items", "_seconds", "cut", "finished", "lost", "name", "refused")

    def __init__(self, name: str, seconds: Callable[[], float]) -> None:
        self.name = name
        self.finished = 0
        self.cut = 0
        self.lost = 0
        self.refused = 0
        self._seconds = seconds
        # A dict keeps the order of arrival, so that its first key is the oldest.
        self._items: dict[Any, None] = {}
        self._idle: list[Deferred[None]] = []

    def begin(self, item: Any) -> None:
        """*item* was accepted; it has ``since`` (monotonic seconds) and ``describe()``, and is hashable."""
        self._items[item] = None

    def end(self, item: Any) -> None:
        """*item* got its complete answer. A second end, of any kind, does nothing."""
        if item in self._items:
            del self._items[item]
            self.finished += 1
            if not self._items and self._idle:
                self._fire()

    def end_cut(self, item: Any) -> None:
        """*item* was cut by us: at the deadline, by a forced stop or by a dead worker mid-answer."""
        if item in self._items:
            del self._items[item]
            self.cut += 1
            if not self._items and self._idle:
                self._fire()

    def end_lost(self, item: Any) -> None:
        """*item*'s client went away before its answer was complete."""
        if item in self._items:
            del self._items[item]
            self.lost += 1
            if not self._items and self._idle:
                self._fire()

    def end_refused(self, item: Any) -> None:
        """*item* was turned away because of the drain: it came too late, or no worker was left for it."""
        if item in self._items:
            del self._items[item]
            self.refused += 1
            if not self._items and self._idle:
                self._fire()

    def refuse(self) -> None:
        """The same for one that was never begun."""
        self.refused += 1

    def count(self) -> int:
        """How many are in flight."""
        return len(self._items)

    def oldest(self) -> float | None:
        """Age in seconds of the oldest, None when there is none."""
        for item in self._items:
            return float(self._seconds() - item.since)
        return None

    def items(self) -> list[Any]:
        """A snapshot, oldest first: for who-blocks-the-drain lines and for cutting all of them."""
        return list(self._items)

    def idle(self) -> Deferred[None]:
        """Fires when none is in flight, at once when none is now; may be cancelled."""
        if not self._items:
            return succeed(None)
        waiter: Deferred[None] = Deferred(self._idle.remove)
        self._idle.append(waiter)
        return waiter

    def _fire(self) -> None:
        waiting, self._idle = self._idle, []
        for waiter in waiting:
            waiter.callback(None)


classImplements(InFlight, IInFlight)  # by name: a decorated class cannot be compiled to a quick one
