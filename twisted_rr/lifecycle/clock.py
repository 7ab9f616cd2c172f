"""A monotonic clock for a foreign reactor, whose own seconds are wall time.

When the reactor is ours, `tap` gives it a monotonic clock and this module is not needed. A wall clock that
is set *back* still delays the foreign reactor's own timers: only that reactor's owner could repair it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer


@implementer(IReactorTime)
class MonotonicClock:
    """`IReactorTime` whose ``seconds`` are `time.monotonic` and whose timers are the reactor's."""

    def __init__(self, reactor: Any, seconds: Callable[[], float] = time.monotonic) -> None:
        self._reactor = reactor
        self._seconds = seconds

    def seconds(self) -> float:
        """Monotonic seconds."""
        return self._seconds()

    def callLater(
        self, delay: float, callable: Callable[..., Any], *args: object, **kw: object
    ) -> IDelayedCall:
        """The reactor's own timer: one that fires early has to look at `seconds` again."""
        call: IDelayedCall = self._reactor.callLater(delay, callable, *args, **kw)
        return call

    def getDelayedCalls(self) -> Any:
        """The reactor's."""
        return self._reactor.getDelayedCalls()
