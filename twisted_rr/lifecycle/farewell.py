"""When clients are told to go elsewhere: `IFront.announce` of every front, once, at ``drain.goaway_start``.

Readiness and the closing of listeners have offsets of their own; what a front tells its clients is its own affair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rr.interfaces import IFront
from twisted_rr.lifecycle.drain import Drain
from twisted_rr.log import logger


class Farewell:
    """Follows *drain* from being made until `close`. An undrain begins it anew."""

    def __init__(self, drain: Drain, clock: IReactorTime, fronts: Callable[[], Iterable[IFront]]) -> None:
        self._drain = drain
        self._clock = clock
        self._fronts = fronts
        self._said = False
        self._timer: IDelayedCall | None = None
        self._log = logger("drain")
        self._unwatch = drain.watch(self._changed)

    def _changed(self, state: str) -> None:
        """In the turn of the change itself, so that the very next answer says it where it is due at once."""
        self._cancel()
        if not self._drain.leaving:
            self._said = False
        elif not self._said:
            self._look()

    def _look(self) -> None:
        due = self._drain.goaway_in()
        if due is None:
            return  # the end of the announce is a change of state
        if due > 0:
            self._timer = self._clock.callLater(due, self._look)
            return
        self._timer = None
        self._said = True
        for front in self._fronts():
            try:
                front.announce()
            except Exception:
                self._log.failure("{front} could not tell its clients to go", front=front.name)

    def _cancel(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def close(self) -> None:
        """Follow no more."""
        self._cancel()
        self._unwatch()
