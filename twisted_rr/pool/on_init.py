"""``server.on_init`` and ``server.after_init``: a command before the workers start, and one when all are ready.

Each is started like a worker, without a relay. What a failure means is decided by ``exit_on_error``
(features.md 2.2).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, FirstError, gatherResults, succeed

from twisted_rr.errors import WorkerStartError
from twisted_rr.pool.host import PoolHost
from twisted_rr.pool.process import Ending, WorkerProcess
from twisted_rr.pool.settings import OnInitSettings, ServerSettings
from twisted_rr.pool.spec import PRIVATE, LaunchSpec, expand, launch_spec, resolve_identity


class OnInit(Service):
    """Runs the command once a start; `run` is for `PoolHost.prepare`, every pool may call it."""

    key = "on_init"

    def __init__(self, settings: OnInitSettings, host: PoolHost, log: Any) -> None:
        """Raises ConfigError: no such user."""
        self.setName(self.key)
        self._settings = settings
        self._host = host
        self._log = log
        self._identity = resolve_identity(settings.user, "", f"server.{self.key}")
        self._waiters: list[Deferred[None]] = []
        self._process: WorkerProcess | None = None
        self._done = False
        self._error: WorkerStartError | None = None
        self._timer: Any = None
        self._gone: Deferred[None] | None = None

    def run(self) -> Deferred[None]:
        """Fires when the command has ended; fails with WorkerStartError under ``exit_on_error``."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if self._done:
            self._tell()
        elif self._process is None:
            self._start()
        return waiter

    def startService(self) -> None:
        """A server that is started once more runs it once more."""
        Service.startService(self)
        if self._done:
            self._done = False
            self._process = None
            self._error = None

    def stopService(self) -> Deferred[None]:
        """End it if it runs; fires when it has been reaped."""
        Service.stopService(self)
        if self._process is None or not self._process.alive:
            return succeed(None)
        self.hurry()
        gone = self._gone = Deferred()
        return gone

    def hurry(self) -> None:
        """SIGKILL to its group."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    def _start(self) -> None:
        process = WorkerProcess(
            self, self._host.reactor, self._log, self._host.pidfd_open, self._host.killpg, self.key,
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
            " ".join(self._settings.command), f"{self.key} took longer than {self._settings.exec_timeout:g} s"
        )
        self._process.signal(signal.SIGKILL)

    def process_exited(self, ending: Ending) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        if self._error is not None:
            self._end(self._error.reason)
        else:
            self._end("" if ending.code == 0 else f"{self.key} ended with {ending}")
        if self._gone is not None:
            gone, self._gone = self._gone, None
            gone.callback(None)

    def _end(self, reason: str) -> None:
        self._done = True
        self._error = None
        if reason:
            error = WorkerStartError(" ".join(self._settings.command), reason)
            self._log.error("server.{key}: {error}", key=self.key, error=str(error))
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


class AfterInit(OnInit):
    """The command that runs once the workers of all pools are ready; the server is not ready before it has ended."""

    key = "after_init"

    def __init__(
        self, settings: OnInitSettings, host: PoolHost, log: Any, pools: Callable[[], Iterable[Any]]
    ) -> None:
        """*pools* gives every pool of the server. Raises ConfigError: no such user."""
        super().__init__(settings, host, log)
        self._pools = pools

    def started(self) -> Deferred[None]:
        """Fires when it has ended; fails with WorkerStartError under ``exit_on_error``."""
        return Deferred.fromCoroutine(self._after_pools())

    async def _after_pools(self) -> None:
        try:
            await gatherResults([pool.ready() for pool in self._pools()], consumeErrors=True)
        except FirstError:
            return  # which the pool tells, and ends the start by
        drain = self._host.drain
        if self.running and not (drain is not None and drain.draining):
            await self.run()


def on_init_env(settings: OnInitSettings, environ: Mapping[str, str]) -> dict[str, str]:
    """Its own variables, then the server's: as in RoadRunner the server's win, and there is no RR_* one."""
    own = {name.upper(): expand(str(value), environ) for name, value in settings.env.items()}
    return {**own, **{name: value for name, value in environ.items() if name not in PRIVATE}}
