"""One pool of workers of one kind: where calls are placed, workers counted and replaced.

How a process is started (launch.py, process.py), what one worker does (worker.py) and which call waits
(waiting.py) are elsewhere.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from twisted_rr.interfaces import IWorkerPool
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.state import WorkerInfo


@attrs.frozen(kw_only=True)
class StopSchedule:
    """When a worker that was told to stop is helped along: seconds after the stop frame.

    :ivar term: SIGTERM to its process group.
    :ivar kill: SIGKILL to its process group.
    """

    term: float = 1.0
    kill: float = 3.0


@attrs.frozen(kw_only=True)
class PoolHost:
    """What a pool is given besides its settings.

    :ivar reactor: spawnProcess, addReader, callLater, and ``seconds()`` that is monotonic.
    :ivar turn: the `twisted_rr.net.turn.Turn` of that reactor.
    :ivar drain: the `IDrain`, None where nothing drains (tests, embedding).
    :ivar environ: the server's own environment; workers get it filtered and extended (protocol.md 2.2).
    :ivar version: becomes RR_VERSION.
    :ivar rpc: the RPC address, becomes RR_RPC; None: not set.
    :ivar relays: the shared `twisted_rr.pool.relay.RelayListener` of ``server.relay: unix://..|tcp://..``.
    :ivar stop: when stopping workers are signalled.
    :ivar random: numbers in [0, 1), for jitter.
    :ivar pidfd_open: pid to pidfd; None or one that raises OSError: reaping is polled.
    """

    reactor: Any
    turn: Any
    environ: Mapping[str, str]
    drain: Any = None
    version: str = ""
    rpc: str | None = None
    relays: Any = None
    stop: StopSchedule = StopSchedule()
    random: Callable[[], float] = random.random
    pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)


@implementer(IWorkerPool)
class WorkerPool(Service):
    """See `IWorkerPool`; ``pool.health`` is its `IHealth` (two contracts call something ``ready``).

    ``WorkerPool(name, mode, settings, server, host, env={})``: *mode* becomes the workers' RR_MODE, *env*
    is the plugin's own part of their environment. ``startService`` starts the workers; `ready` tells how
    it went. ``stopService`` takes no more calls, stops every worker by the schedule of `PoolHost.stop`
    and fires when all are reaped; what is then still open ends with WorkerDied. `finish` first waits for
    open and waiting calls.
    """

    def __init__(
        self,
        name: str,
        mode: str,
        settings: PoolSettings,
        server: ServerSettings,
        host: PoolHost,
        env: Mapping[str, str] | None = None,
    ) -> None: ...

    def open(self, head: Any, body: bytes, more: bool, to: Any) -> Any: ...

    def ready(self) -> Deferred[None]: ...

    def counts(self) -> tuple[int, int]:
        """``(alive, total)``: workers that answered the handshake and live, and those wanted."""

    def waiting(self) -> int:
        """Calls that wait for a worker."""

    def workers(self) -> Sequence[WorkerInfo]: ...

    def reset(self) -> Deferred[None]: ...

    def grow(self, count: int) -> Deferred[None]: ...

    def shrink(self, count: int) -> Deferred[None]: ...

    def finish(self) -> Deferred[None]:
        """Fires when no call is open or waiting; the pool still takes calls meanwhile."""

    def hurry(self) -> None:
        """SIGKILL to every worker now; ``stopService`` still fires only when all are reaped."""
