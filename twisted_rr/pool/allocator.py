"""``pool.dynamic_allocator``: more workers while calls have to wait, fewer again when they do not.

Unlike RoadRunner it starts them when a call begins to wait, not when it has waited in vain.
"""

from __future__ import annotations

from typing import Any

from twisted_rr.pool.crew import Crew
from twisted_rr.pool.settings import AllocatorSettings

BATCH = 1.0  # seconds between two batches


class Allocator:
    """`shortage` is told of every call that has to wait; without settings it does nothing."""

    def __init__(self, crew: Crew, clock: Any, settings: AllocatorSettings | None) -> None:
        self._crew = crew
        self._clock = clock
        self._settings = settings
        self._last_shortage = 0.0
        self._last_batch = float("-inf")
        self._timer: Any = None

    def shortage(self) -> None:
        """A call waits."""
        if self._settings is None or self._crew.starting or self._crew.draining:
            return
        now = self._clock.seconds()
        self._last_shortage = now
        if now - self._last_batch >= BATCH:
            self._last_batch = now
            room = self._settings.max_workers - self._crew.extra
            if room > 0:
                self._crew.add_extra(min(self._settings.spawn_rate, room))
        if self._timer is None and self._crew.extra:
            self._timer = self._clock.callLater(BATCH, self._check)

    def apply(self, settings: AllocatorSettings | None) -> None:
        """Go by other settings; extra workers beyond them are not wanted any more."""
        self._settings = settings
        most = 0 if settings is None else settings.max_workers
        self._crew.extra = min(self._crew.extra, most)
        if not self._crew.extra and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        """Once a second while there are extra workers: more are started while calls still wait."""
        assert self._settings is not None
        self._timer = None
        if self._crew.demand():
            self.shortage()
        elif self._clock.seconds() - self._last_shortage >= self._settings.idle_timeout:
            self._crew.add_extra(-self._settings.spawn_rate)
            self._last_shortage = self._clock.seconds()
        if self._timer is None and self._crew.extra:
            self._timer = self._clock.callLater(BATCH, self._check)

    def stop(self) -> None:
        """The pool stops."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._crew.extra = 0
