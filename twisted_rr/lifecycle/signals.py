"""Signals: one table of what each means before and during a stop, and handlers that are safe at any instant.

A handler only notes the signal and wakes the reactor; everything happens in a reactor turn. Only while there is
nothing to stop yet, it ends the process itself. Installed as the first act of the process, because an unhandled
SIGTERM to PID 1 is dropped by the kernel: that is also why this module loads neither Twisted nor zope, whose import
takes long enough for a signal to get lost. Reload, reset and log files belong to the hooks.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from twisted_rr.lifecycle.exits import EXIT_DRAINED, EXIT_FORCED

if TYPE_CHECKING:
    from twisted_rr.lifecycle.drain import Drain

#: signal -> (before a stop, during a stop). HUP is looked up as TTY_HUP where there is a terminal, INT as TTY_INT.
TABLE: dict[str, tuple[str, str]] = {
    "SIGTERM": ("stop", "same_stop"),
    "SIGQUIT": ("stop", "same_stop"),
    "SIGINT": ("stop", "hurry"),
    "SIGINT in a terminal": ("interrupt", "hurry"),
    "SIGHUP": ("reload", "refuse"),
    "SIGHUP of a terminal": ("interrupt", "same_stop"),
    "SIGUSR1": ("reopen", "reopen"),
    "SIGUSR2": ("reset", "refuse"),
}

HANDLED = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_ENDING = frozenset((signal.SIGTERM, signal.SIGQUIT, signal.SIGINT))

# How long an interrupt may wait for its reactor turn before the next one ends the process on the spot.
_PATIENCE = 0.5


def has_terminal() -> bool:
    """Whether the process has a controlling terminal (daemons, containers and units have none)."""
    try:
        descriptor = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    os.close(descriptor)
    return True


class Signals:
    """The signals of this process.

    `install` first; `attach` once there are a reactor and a drain. A signal that asks to stop in between ends the
    process on the spot: nothing was bound or started. Others are delivered then.

    :ivar alarm: called in the handler of a signal that asks to stop, so it must be safe there.
    :ivar reload: called for SIGHUP without a terminal.
    :ivar reopen: called for SIGUSR1: open log files anew.
    :ivar reset: called for SIGUSR2: reload, then replace all workers.
    """

    def __init__(
        self,
        *,
        terminal: Callable[[], bool] = has_terminal,
        seconds: Callable[[], float] = time.monotonic,
        leave: Callable[[int], object] = os._exit,
        set_handler: Callable[[int, Any], object] = signal.signal,
    ) -> None:
        self._terminal = terminal
        self._seconds = seconds
        self._leave = leave
        self._set_handler = set_handler
        self._noted: deque[tuple[int, float]] = deque()
        self._reactor: Any = None
        self._drain: Drain | None = None
        self._second_term = "same_stop"
        self._second_int = "hurry"
        self._stopped = False
        # Asked now and again once running: after a hang-up the terminal can no longer be asked for.
        self._in_terminal = terminal()
        self._log: Any = None
        self.alarm: Callable[[], object] = lambda: None
        self.reload: Callable[[], object] | None = None
        self.reopen: Callable[[], object] | None = None
        self.reset: Callable[[], object] | None = None

    def install(self) -> None:
        """Take the handlers. Called again when the reactor runs, because it takes SIGTERM for itself."""
        for number in HANDLED:
            # nohup: who ignored the hang-up of this terminal on purpose is left alone.
            if number == signal.SIGHUP and self._in_terminal and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._set_handler(number, self.note)

    def ignore(self) -> None:
        """From now on every signal is lost: the process is at its end anyway."""
        for number in HANDLED:
            self._set_handler(number, signal.SIG_IGN)

    def attach(
        self, reactor: Any, drain: Drain, *, second_int: str = "force", second_term: str = "same_stop"
    ) -> None:
        """From now on signals are carried out, in turns of *reactor*; ``drain.second_signal`` says how."""
        from twisted_rr.log import logger

        self._log = logger("signals")
        self._reactor = reactor
        self._drain = drain
        self._second_int = "hurry" if second_int == "force" else "same_stop"
        self._second_term = "hurry" if second_term == "force" else "same_stop"
        reactor.callWhenRunning(self._running)
        if self._noted:
            reactor.callFromThread(self._deliver)

    def stop(self, cause: str) -> None:
        """Begin the drain and stop the reactor, once; also for a failed start and for the admin's stop."""
        if self._drain is not None:
            self._drain.begin(cause)
        self._stop_reactor()

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """The handler: runs between two bytecodes of anything, so it only writes it down."""
        now = self._seconds()
        if number == signal.SIGINT and self._ignored_interrupt(now):
            # Nothing answers, not even the reactor: whoever presses Ctrl-C again means it. Workers die with us.
            self._leave(EXIT_FORCED)
        if number in _ENDING and self._reactor is None:
            # There is nothing to stop, and what is still being imported takes seconds where CPU is scarce.
            self._leave(EXIT_DRAINED)
        self._noted.append((number, now))
        if number in _ENDING or (number == signal.SIGHUP and self._in_terminal):
            self.alarm()
        if self._reactor is not None:
            self._reactor.callFromThread(self._deliver)

    def _ignored_interrupt(self, now: float) -> bool:
        return any(number == signal.SIGINT and now - at > _PATIENCE for number, at in list(self._noted))

    def _running(self) -> None:
        # twistd daemonizes between install and here.
        self._in_terminal = self._terminal()
        self.install()

    def _deliver(self) -> None:
        while self._noted:
            number, at = self._noted.popleft()
            name = signal.Signals(number).name
            action = self._action(name)
            self._log.info("{signal}: {action}", signal=name, action=action.replace("_", " "))
            self._act(action, name, at)

    def _action(self, name: str) -> str:
        row = name
        if self._in_terminal:
            row = {"SIGINT": "SIGINT in a terminal", "SIGHUP": "SIGHUP of a terminal"}.get(name, name)
        stopping = self._stopped or (self._drain is not None and self._drain.draining)
        action = TABLE[row][stopping]
        if stopping and name == "SIGINT":
            return self._second_int
        return self._second_term if stopping and name == "SIGTERM" else action

    def _act(self, action: str, name: str, at: float) -> None:
        assert self._drain is not None
        if action in ("stop", "interrupt"):
            self._drain.begin(name, at, brisk=action == "interrupt")
            self._stop_reactor()
        elif action == "hurry":
            self._drain.hurry()
            self._stop_reactor()
        elif action in ("reload", "reopen", "reset"):
            self._call_hook(action)

    def _call_hook(self, action: str) -> None:
        hook: Callable[[], object] | None = getattr(self, action)
        if hook is None:
            self._log.warn("nothing here can {action}", action=action)
            return
        try:
            hook()
        except Exception:
            self._log.failure("{action} failed", action=action)

    def _stop_reactor(self) -> None:
        if self._stopped or self._reactor is None:
            return
        self._stopped = True
        if not self._stop_now():
            # Not yet: a failure in the very start, and it stops in its first turn. Or somebody else has stopped it.
            self._reactor.callWhenRunning(self._stop_now)

    def _stop_now(self) -> bool:
        from twisted.internet.error import ReactorNotRunning

        try:
            self._reactor.stop()
        except ReactorNotRunning:
            return False
        return True
