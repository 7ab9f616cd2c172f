"""Reaps processes that became ours because their parent ended, as PID 1 and subreapers have to.

Those that the server started itself have each its own watch (`twisted_rr.pool.process`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.process import reapProcessHandlers

from twisted_rr.pool import child

TICK: Final = 1.0
_PR_SET_CHILD_SUBREAPER: Final = 36


def become_subreaper() -> None:
    """From now on processes below this one whose parent ends become children of this one. Raises OSError."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Strangers(Service):
    """Looks once a second, if this is PID 1 or after `begin`.

    A stranger is left for a second to whoever may know it. *ours* tells that every process below this one is the
    server's; else only those are reaped that are in the process group of a worker, for a foreign program waits for
    its own.
    """

    name = "strangers"

    def __init__(self, reactor: Any, ours: bool, getpid: Callable[[], int] = os.getpid) -> None:
        self.reaped = 0
        self._reactor = reactor
        self._ours = ours
        self._getpid = getpid
        self._seen: set[int] = set()
        self._wanted = False
        self._timer: Any = None

    def startService(self) -> None:
        Service.startService(self)
        if self._getpid() == 1 and self._ours:
            self._wanted = True
        if self._wanted:
            self.begin()

    def stopService(self) -> None:
        Service.stopService(self)
        self.end()

    def begin(self) -> None:
        """Look from now on. Idempotent."""
        self._wanted = True
        if self._timer is None:
            self._timer = self._reactor.callLater(TICK, self._tick)

    def end(self) -> None:
        """Look no more. Idempotent."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _tick(self) -> None:
        self._timer = self._reactor.callLater(TICK, self._tick)
        self.look()

    def look(self) -> None:
        """Reap strangers that had ended at the last look already."""
        seen, self._seen = self._seen, set()
        if not _any_ended():
            return
        for pid in _children(self._getpid()):
            if pid in child.running or pid in reapProcessHandlers or not self._may_reap(pid):
                continue
            if pid in seen:
                with contextlib.suppress(ChildProcessError):
                    self.reaped += os.waitpid(pid, os.WNOHANG)[0] == pid
            else:
                self._seen.add(pid)

    def _may_reap(self, pid: int) -> bool:
        try:
            state, _, group = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:3]
        except OSError:
            return False
        if state != "Z":
            return False
        # What a part of this program has started by itself is in our own process group as a rule, and waited for.
        stranger = int(group) != os.getpgrp() or self._getpid() == 1
        return stranger if self._ours else int(group) in child.groups


def _any_ended() -> bool:
    """Whether some child is a zombie: one system call, for nearly always there is none."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(word) for word in (task / "children").read_text().split()]
    except OSError:
        return found
    return found
