"""The deadline's last keeper: a thread that ends the process when its reactor cannot (drain.md F36).

A callback that blocks keeps the reactor from its timers, and with them from the deadline; the platform's SIGKILL
would then come without a report and leave the workers to themselves. Only for a process that is ours. Loads neither
Twisted nor zope. Left out: what is done in order, which is `stopping`'s.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted_rr.lifecycle.exits import EXIT_CUT, EXIT_FORCED

if TYPE_CHECKING:
    from twisted_rr.lifecycle.server import Server

_TICK = 0.25
#: A reactor that has not turned for so long is blocked.
_BLOCKED = 0.9
# Looks beyond the end. Counted, not timed: a process that was stopped and continued gets them all (drain.md F31).
_LOOKS_BLOCKED = 3
_LOOKS = 12


def _pause(seconds: float) -> None:
    """Like time.sleep, which raises where the C library's clock was replaced to test jumps of the wall clock."""
    threading.Event().wait(seconds)


class Backstop:
    """Waits for the `alarm`, then for the end of the budget.

    :param code: from the code that such an end would have by itself to the one it shall have (`Exits.code_or`).
    """

    def __init__(
        self,
        code: Callable[[int], int],
        *,
        seconds: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = _pause,
        leave: Callable[[int], object] = os._exit,
        killpg: Callable[[int, int], object] = os.killpg,
        say: Callable[[bytes], object] = lambda text: os.write(2, text),
    ) -> None:
        self._code = code
        self._seconds = seconds
        self._sleep = sleep
        self._leave = leave
        self._killpg = killpg
        self._say = say
        # A bare lock: to release one is all that a signal handler may safely do.
        self._gate = threading.Lock()
        self._gate.acquire()
        self._alarmed: float | None = None
        self._turned: float | None = None
        self._server: Any = None
        self._reactor: Any = None

    def alarm(self) -> None:
        """A stop was asked for. Safe in a signal handler; only the first counts."""
        if self._alarmed is None:
            self._alarmed = self._seconds()
            self._gate.release()

    def follow(self, server: Server, reactor: Any) -> None:
        """Keep the deadline of *server*. The thread starts with the reactor: a daemon forks before that."""
        self._server = server
        self._reactor = reactor
        server.drain.watch(self._changed)
        reactor.callWhenRunning(self._start)

    def _start(self) -> None:
        threading.Thread(target=self.watch, name="backstop", daemon=True).start()

    def _changed(self, state: str) -> None:
        if self._server.drain.draining and self._turned is None:
            self.alarm()
            self._turn()

    def _turn(self) -> None:
        self._turned = self._seconds()
        self._reactor.callLater(_TICK, self._turn)

    # --------------------------------------------------------------- the thread

    def watch(self) -> None:
        """Wait for the alarm, then see to it that the process ends; for the thread."""
        # Waker: `alarm`.
        self._gate.acquire()
        looks = 0
        while True:
            self._sleep(_TICK)
            if self._seconds() < self._end():
                looks = 0
                continue
            looks += 1
            if looks >= _LOOKS or (looks >= _LOOKS_BLOCKED and self._is_blocked()):
                self._end_process()
                return

    def _end(self) -> float:
        drain = self._server.drain
        if drain.begun is None:
            return (self._alarmed or 0.0) + float(drain.plan.total)
        return float(drain.end)

    def _is_blocked(self) -> bool:
        return self._turned is None or self._seconds() - self._turned > _BLOCKED

    def _end_process(self) -> None:
        for pid in self._workers():
            with contextlib.suppress(OSError):
                self._killpg(pid, signal.SIGKILL)
        why = "the reactor is blocked" if self._is_blocked() else "the stop does not end"
        with contextlib.suppress(OSError):
            self._say(
                f"twisted_rr: {why} beyond the budget: workers are killed, the process exits\n".encode()
            )
        self._leave(self._code(EXIT_FORCED if self._server.drain.hurried else EXIT_CUT))

    def _workers(self) -> list[int]:
        # Read from another thread: a list that changes meanwhile is asked again by nobody, PDEATHSIG takes the rest.
        pids: list[int] = []
        with contextlib.suppress(Exception):
            for pool in self._server.pools():
                pids += [info.pid for info in pool.workers()]
        return pids
