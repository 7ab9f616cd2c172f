"""``server.on_init``: one command that runs before the workers start (features.md 2.2).

It is started like a worker, without a relay. What a failure means is decided by ``exit_on_error``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from twisted_rr.errors import WorkerStartError
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.process import Ending, WorkerProcess
from twisted_rr.pool.settings import OnInitSettings, ServerSettings
from twisted_rr.pool.spec import PRIVATE, LaunchSpec, expand, launch_spec, resolve_identity


class OnInit:
    """Runs the command once; `run` is for `PoolHost.prepare`, every pool may call it."""

    def __init__(self, settings: OnInitSettings, host: PoolHost, log: Any) -> None:
        """Raises ConfigError: no such user."""
        self._settings = settings
        self._host = host
        self._log = log
        self._identity = resolve_identity(settings.user, "", "server.on_init")
        self._waiters: list[Deferred[None]] = []
        self._process: WorkerProcess | None = None
        self._done = False
        self._error: WorkerStartError | None = None
        self._timer: Any = None

    def run(self) -> Deferred[None]:
        """Fires when the command has ended; fails with WorkerStartError under ``exit_on_error``."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if self._done:
            self._tell()
        elif self._process is None:
            self._start()
        return waiter

    def again(self) -> None:
        """A server that is started once more runs it once more."""
        if self._done:
            self._done = False
            self._process = None
            self._error = None

    def _start(self) -> None:
        process = WorkerProcess(
            self, self._host.reactor, self._log, self._host.pidfd_open, self._host.killpg, "on_init",
            self._host.start,
        )  # fmt: skip
        self._process = process
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            process.spawn(self._spec(), null, None)
        except OSError as error:
            self._end(f"it could not be started: {error.strerror}")
            return
        finally:
            os.close(null)
        if process.alive:
            self._timer = self._host.reactor.callLater(self._settings.exec_timeout, self._too_long)

    def _spec(self) -> LaunchSpec:
        return launch_spec(
            self._settings.command, ServerSettings(), self._identity, on_init_env(self._settings, self._host.environ),
            self._host.getpid(),
        )  # fmt: skip

    def _too_long(self) -> None:
        assert self._process is not None
        self._error = WorkerStartError(
            " ".join(self._settings.command), f"on_init took longer than {self._settings.exec_timeout:g} s"
        )
        self._process.signal(signal.SIGKILL)

    def process_exited(self, ending: Ending) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._error is not None:
            self._end(self._error.reason)
        else:
            self._end("" if ending.code == 0 else f"on_init ended with {ending}")

    def _end(self, reason: str) -> None:
        self._done = True
        self._error = None
        if reason:
            error = WorkerStartError(" ".join(self._settings.command), reason)
            self._log.error("server.on_init: {error}", error=str(error))
            if self._settings.exit_on_error:
                self._error = error
        self._tell()

    def _tell(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if self._error is not None:
                waiter.errback(self._error)
            else:
                waiter.callback(None)


def on_init_env(settings: OnInitSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Its own variables, then the server's: as in RoadRunner the server's win, and there is no RR_* one."""
    own = {name.upper(): expand(str(value), environ) for name, value in settings.env.items()}
    return {**own, **{name: value for name, value in environ.items() if name not in PRIVATE}}
