"""The service tree: phases that start together and stop one after another.

`Phase` hides no failure of a child, as a plain MultiService does. `Server` is the root: it starts the
phases, says when everything is ready, and hands the way out to `stopping`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import CancelledError, Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_rr.errors import RRError
from twisted_rr.interfaces import IFront, IHurry, IWorkerPool
from twisted_rr.lifecycle.budget import Budget
from twisted_rr.lifecycle.clock import MonotonicClock
from twisted_rr.lifecycle.drain import Drain
from twisted_rr.lifecycle.notify import Notifier
from twisted_rr.lifecycle.report import Report
from twisted_rr.log import logger

STATUS, METRICS, CONTROL, DRIVERS, WORKERS, FRONT = "STATUS", "METRICS", "CONTROL", "DRIVERS", "WORKERS", "FRONT"

#: In the order of starting; they stop in the reverse order, one after another.
PHASES = (STATUS, METRICS, CONTROL, DRIVERS, WORKERS, FRONT)


class PhaseFailed(RRError):
    """Children of a phase that failed to stop; each failure was logged.

    :ivar phase: the phase's name.
    :ivar children: the names of those that failed.
    """

    def __init__(self, phase: str, children: list[str]) -> None:
        super().__init__(phase, children)
        self.phase = phase
        self.children = children

    def __str__(self) -> str:
        return f"{self.phase}: {', '.join(self.children)} did not stop cleanly"


class Phase(MultiService):
    """Services that may stop together. A child's failure is logged by the child's name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setName(name)
        self._waiting: dict[IService, str] = {}
        self._log = logger("phases")

    @property
    def waiting(self) -> list[str]:
        """Names of the children whose stop is under way."""
        return list(self._waiting.values())

    def stopService(self) -> Deferred[None]:
        """Stop all children, last added first; waits for every one, then raises `PhaseFailed` if any failed."""
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        children = list(self)
        children.reverse()
        self._waiting = {child: name_of(child) for child in children}
        stops = [self._stop_child(child) for child in children]
        failed = [name for _, name in await DeferredList(stops) if name is not None]
        if failed:
            raise PhaseFailed(str(self.name), failed)

    def _stop_child(self, child: IService) -> Deferred[str | None]:
        name = self._waiting[child]

        def failed(failure: Failure) -> str:
            self._log.failure("{child} did not stop cleanly", failure=failure, child=name)
            return name

        def over(result: Any) -> str | None:
            self._waiting.pop(child, None)
            return result if isinstance(result, str) else None

        stopped: Deferred[Any] = maybeDeferred(child.stopService)
        return stopped.addCallbacks(lambda _: None, failed).addCallback(over)

    def hurry(self) -> None:
        """Force every child that can be forced."""
        for child in self:
            if IHurry.providedBy(child) or IFront.providedBy(child):
                try:
                    child.hurry()
                except Exception:
                    self._log.failure("{child} could not be forced", child=name_of(child))


class Server(MultiService):
    """The root service: six `Phase`s under one `Drain`.

    Usable inside a foreign MultiService: it installs no signal handler and no atexit hook, and its
    ``stopService`` drains without a shutdown of the reactor. It may start again after a stop.

    :param reactor: an IReactorCore for the shutdown trigger, and the owner of timers.
    :param budget: see `budget.plan`.
    :param clock: an IReactorTime with monotonic seconds; a `MonotonicClock` over *reactor* by default.
    :param on_failure: called once with the Failure when the server cannot go on; when it is None the
        server just stops itself (embedding).
    :ivar drain: the `Drain`.
    :ivar report: the `Report` of the last stop, None before.
    """

    def __init__(
        self,
        reactor: Any,
        budget: Budget,
        *,
        clock: IReactorTime | None = None,
        notify: Notifier | None = None,
        on_failure: Callable[[Failure], None] | None = None,
    ) -> None: ...
