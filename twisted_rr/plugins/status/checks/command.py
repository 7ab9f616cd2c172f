"""Checks that run a command: it has to exit with 0 in time; what it prints is kept for the log only.

Started as a worker is: in a process group of its own, that ends with the server, as the workers' user.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred

from twisted_rr.plugins.status.checks.connect import CheckFailed
from twisted_rr.pool.process import Ending, WorkerProcess
from twisted_rr.pool.settings import ServerSettings
from twisted_rr.pool.spec import PRIVATE, launch_spec, resolve_identity

_PIDFD_OPEN: Callable[[int], int] | None = getattr(os, "pidfd_open", None)


class _Silent:
    """A log for lines that are kept as the process's tail anyway."""

    def info(self, format: str, **fields: Any) -> None:
        """Dropped."""

    def error(self, format: str, **fields: Any) -> None:
        """Dropped: what fails is told by the check."""


class _Command:
    """One run."""

    def __init__(self, reactor: Any, pidfd_open: Callable[[int], int] | None) -> None:
        self.result: Deferred[None] = Deferred(lambda _: self.process.signal(signal.SIGKILL))
        self.process = WorkerProcess(self, reactor, _Silent(), pidfd_open, kind="check")

    def process_exited(self, ending: Ending) -> None:
        if self.result.called:
            return
        if ending.code == 0:
            self.result.callback(None)
            return
        said = "; ".join(list(self.process.tail)[-3:])
        self.result.errback(CheckFailed(f"{ending}: {said}" if said else str(ending)))


class Commands:
    """Runs commands for *server*'s user, in its directory.

    :raises ConfigError: there is no such user.
    """

    def __init__(
        self,
        reactor: Any,
        server: ServerSettings | None,
        environ: Mapping[str, str],
        pidfd_open: Callable[[int], int] | None = _PIDFD_OPEN,
    ) -> None:
        self._reactor = reactor
        self._server = ServerSettings() if server is None else server
        self._identity = resolve_identity(self._server.user, self._server.group)
        self._environ = {name: value for name, value in environ.items() if name not in PRIVATE}
        self._pidfd_open = pidfd_open

    def run(self, words: tuple[str, ...]) -> Deferred[None]:
        """Fires when *words* exited with 0, fails with `CheckFailed`; cancelled, its process group is killed."""
        command = _Command(self._reactor, self._pidfd_open)
        spec = launch_spec(words, self._server, self._identity, self._environ)
        nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            command.process.spawn(spec, nothing, None)
        finally:
            os.close(nothing)
        return command.result
