"""The phases of the service tree: services that start and stop together, and hide no failure as a MultiService does.

In which order phases stop, and how long each may take, is `stopping`'s.
"""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.python.failure import Failure

from twisted_rr.errors import RRError
from twisted_rr.log import logger

STATUS, METRICS, CONTROL, DRIVERS, WORKERS, FRONT = (
    "STATUS",
    "METRICS",
    "CONTROL",
    "DRIVERS",
    "WORKERS",
    "FRONT",
)

#: In the order of starting; they stop in the reverse order, one after another.
PHASES = (STATUS, METRICS, CONTROL, DRIVERS, WORKERS, FRONT)


def name_of(service: Any) -> str:
    """What a service is called in logs: its name, else its class."""
    return str(service.name or type(service).__name__)


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
        """Force every child that can be forced (`IHurry`, `IFront` and pools; a mere ``hurry`` is enough)."""
        for child in self:
            hurry = getattr(child, "hurry", None)
            if hurry is not None:
                try:
                    hurry()
                except Exception:
                    self._log.failure("{child} could not be forced", child=name_of(child))
