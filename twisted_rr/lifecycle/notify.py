"""What systemd is told: READY, STOPPING, STATUS, RELOADING, EXTEND_TIMEOUT_USEC (sd_notify(3)).

Only the datagrams: the words of the status line come from the caller, WATCHDOG from `watchdog`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from twisted_rr.lifecycle.drain import RUNNING, STOPPING, Drain
from twisted_rr.lifecycle.movement import Movement
from twisted_rr.log import logger

# Twice the interval, so that one late turn of ours does not get the unit killed.
_INTERVAL = 1.0
_EXTENSION = 2.0


class Notifier:
    """A sender to ``NOTIFY_SOCKET``. Without one, and after any error, it is silent; it never blocks."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._log = logger("systemd")

    @property
    def enabled(self) -> bool:
        """Whether anybody listens."""
        return bool(self._address)

    def send(self, *lines: str) -> None:
        """Send assignments such as ``READY=1`` in one datagram."""
        if not self._address:
            return
        try:
            if self._socket is None:
                self._socket = socket.socket(
                    socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                )
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except BlockingIOError:
            pass  # Its queue is full: the next line, a second later, says it again.
        except OSError as error:
            self._log.warn("NOTIFY_SOCKET cannot be reached: {error}", error=str(error))
            self._address = ""

    def reloading(self, now: float) -> None:
        """A reload begins at monotonic *now*; `ready` ends it."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={int(now * 1_000_000)}")

    def ready(self, line: str) -> None:
        """Everything serves."""
        self.send("READY=1", f"STATUS={line}")

    def follow(
        self,
        drain: Drain,
        clock: IReactorTime,
        line: Callable[[], str],
        movement: Movement | None = None,
    ) -> Callable[[], None]:
        """Tell each state of *drain*, and *line* every second while it drains; returns the call that ends it.

        While it drains more time is asked for as long as there is *movement*; without one, only a change of
        state counts as such.
        """
        follower = _Follower(self, drain, clock, line, movement or Movement(list))
        return follower.close


class _Follower:
    """Turns states into datagrams."""

    def __init__(
        self,
        notifier: Notifier,
        drain: Drain,
        clock: IReactorTime,
        line: Callable[[], str],
        movement: Movement,
    ) -> None:
        self._notifier = notifier
        self._drain = drain
        self._clock = clock
        self._line = line
        self._movement = movement
        self._timer: IDelayedCall | None = None
        self._told_stopping = False
        self._unwatch = drain.watch(self._changed)

    def _changed(self, state: str) -> None:
        self._movement.mark(self._clock.seconds())
        if state == RUNNING:
            self._notifier.ready(self._line())
        elif self._drain.draining and not self._told_stopping:
            self._told_stopping = True
            self._notifier.send("STOPPING=1", f"STATUS={self._line()}")
            self._again()
        else:
            self._notifier.send(f"STATUS={self._line()}")

    def _again(self) -> None:
        if self._notifier.enabled:
            self._timer = self._clock.callLater(_INTERVAL, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self._notifier.send(f"STATUS={self._line()}", *self._more_time())
        self._again()

    def _more_time(self) -> list[str]:
        """Never beyond our own end, and not without progress: what hangs is systemd's to kill."""
        now = self._clock.seconds()
        moved = self._movement.moved(now)
        left = round((self._drain.end - now) * 1_000_000)
        if not moved or left <= 0:
            return []
        return [f"EXTEND_TIMEOUT_USEC={min(round(_EXTENSION * 1_000_000), left)}"]

    def close(self) -> None:
        self._unwatch()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._drain.state == STOPPING:
            self._notifier.send("STATUS=stopped")
