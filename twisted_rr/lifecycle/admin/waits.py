"""Requests that are answered later: when nothing is in flight, when a stop is over, or when their time is.

Each has one answer. A client that goes away takes only its own wait along: the drain stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall

from twisted_rr.lifecycle.admin.progress import Progress
from twisted_rr.lifecycle.drain import DRAINED
from twisted_rr.lifecycle.report import DRAINED as ALL_DRAINED
from twisted_rr.lifecycle.report import FORCED, KILLED, Report
from twisted_rr.lifecycle.server import Server

# Nothing on the path of a request tells that it was the last, so who waits looks. Only while somebody waits.
_LOOK = 0.05

Answer = Callable[[int, dict[str, Any]], None]


class Wait:
    """One held request.

    :ivar for_drain: it is content when nothing is in flight; else it waits for the end of the stop.
    :ivar force: it asked for a forced stop, so such a one is what it wanted.
    """

    def __init__(
        self,
        answer: Answer,
        *,
        until: float | None,
        quiet: float = 0.0,
        for_drain: bool = False,
        force: bool = False,
    ) -> None:
        self.answer = answer
        self.until = until
        self.quiet = quiet
        self.for_drain = for_drain
        self.force = force


class Waits:
    """All held requests of one server.

    Wakers: a look every 50 ms while there are any, each change of the lifecycle's state, `end`.
    """

    def __init__(self, server: Server, progress: Progress) -> None:
        self._server = server
        self._progress = progress
        self._waits: list[Wait] = []
        self._timer: IDelayedCall | None = None
        self._done = -1
        self._busy_at = 0.0
        server.drain.watch(self._changed)

    def __len__(self) -> int:
        return len(self._waits)

    def add(self, wait: Wait) -> None:
        """Hold *wait*; it may be answered before this returns."""
        if not self._waits:
            # What happened before somebody looked counts as traffic: quiet is counted from here.
            self._done = -1
        self._waits.append(wait)
        self._look()

    def forget(self, wait: Wait) -> None:
        """Its client went away, or it was answered."""
        if wait in self._waits:
            self._waits.remove(wait)
        if not self._waits:
            self._stop_timer()

    def _changed(self, state: str) -> None:
        if self._waits:
            self._look()

    def _look(self) -> None:
        self._stop_timer()
        now = self._server.clock.seconds()
        self._observe(now)
        for wait in list(self._waits):
            self._judge(wait, now)
        if self._waits:
            self._timer = self._server.clock.callLater(_LOOK, self._look)

    def _observe(self, now: float) -> None:
        """Note when something was in flight last; a call that came and went between two looks counts too."""
        counts = self._progress.tally()
        done = counts.finished + counts.cut + counts.lost
        if self._progress.in_flight() or done != self._done:
            self._busy_at = now
        self._done = done

    def _judge(self, wait: Wait, now: float) -> None:
        drain = self._server.drain
        if wait.for_drain and not drain.leaving:
            self._settle(wait, 409, done=False, reason=f"the drain was taken back: {drain.state}")
        elif wait.for_drain and drain.state == DRAINED and self._is_quiet(wait, now):
            self._settle(wait, 200, done=True)
        elif wait.until is not None and now >= wait.until:
            self._settle(wait, 504, done=False, reason="the deadline passed")

    def _is_quiet(self, wait: Wait, now: float) -> bool:
        return not self._progress.in_flight() and now - self._busy_at >= wait.quiet

    def _settle(self, wait: Wait, status: int, **more: Any) -> None:
        if wait not in self._waits:
            # An answer lets the next request of its connection begin, which looks at all of them itself.
            return
        self.forget(wait)
        wait.answer(status, {**more, **self._progress.drain()})

    def end(self, report: Report | None) -> None:
        """The stop is over: everybody hears how it went."""
        for wait in list(self._waits):
            if report is None:
                self._settle(wait, 500, done=False, reason="the server stopped without a report")
                continue
            fine = report.outcome in (ALL_DRAINED, KILLED) or (wait.force and report.outcome == FORCED)
            more = {"reason": f"the stop ended: {report.outcome}"} if not fine else {}
            self._settle(wait, 200 if fine else 504, done=fine, report=report.record(), **more)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
