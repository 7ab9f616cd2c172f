"""What keeps systemd's watchdog from ending us: WATCHDOG=1, and only while /health would say yes.

A blind ticker would keep a stuck server alive for ever. What /health means is the caller's; the datagrams are sent by
`notify`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rr.log import logger

if TYPE_CHECKING:
    from twisted_rr.lifecycle.notify import Notifier


def watchdog_interval(environ: Mapping[str, str]) -> float | None:
    """``WATCHDOG_USEC`` in seconds; None when there is no watchdog (sd_watchdog_enabled(3))."""
    told = environ.get("WATCHDOG_USEC", "")
    if not told:
        return None
    if not (told.isascii() and told.isdigit() and int(told) > 0):
        logger("systemd").warn("WATCHDOG_USEC is {told!r}, expected microseconds: no watchdog", told=told)
        return None
    return int(told) / 1_000_000


class Watchdog(Service):
    """Sends WATCHDOG=1 twice an interval, as long as *healthy* says so. A service for phase STATUS.

    When it is silent systemd kills and restarts the unit; an answer that turns good in time is sent again.

    :param interval: ``WatchdogSec`` in seconds; see `watchdog_interval`.
    :param healthy: whether /health is 200 now. One that raises counts as no.
    :param pid: who we are; asked at the start, because a daemon's process is not the one that was built in.
    """

    def __init__(
        self,
        notifier: Notifier,
        clock: IReactorTime,
        interval: float,
        healthy: Callable[[], bool],
        *,
        environ: Mapping[str, str],
        pid: Callable[[], int] = os.getpid,
    ) -> None:
        self.setName("watchdog")
        self._notifier = notifier
        self._clock = clock
        self._period = interval / 2
        self._healthy = healthy
        self._for = environ.get("WATCHDOG_PID", "")
        self._pid = pid
        self._timer: IDelayedCall | None = None
        self._silent = False
        self._log = logger("systemd")

    def startService(self) -> None:
        """Begin, unless the watchdog is meant for another process (``WATCHDOG_PID``)."""
        super().startService()
        if self._notifier.enabled and self._for in ("", str(self._pid())):
            self._tick()

    def _tick(self) -> None:
        self._timer = self._clock.callLater(self._period, self._tick)
        healthy = self._ask()
        if healthy:
            self._notifier.send("WATCHDOG=1")
        if healthy == self._silent:
            self._tell(healthy)

    def _ask(self) -> bool:
        try:
            return bool(self._healthy())
        except Exception:
            self._log.failure("the server's health cannot be told")
            return False

    def _tell(self, healthy: bool) -> None:
        self._silent = not healthy
        if healthy:
            self._log.info("healthy again: the watchdog is kept alive")
        else:
            self._log.error("not healthy: the watchdog is not kept alive, systemd will restart the unit")

    def stopService(self) -> None:
        """End; the last of all phases, so that a stop is watched as well."""
        super().stopService()
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
