"""What a pool is given besides its settings: the outside world, as arguments."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping
from typing import Any

import attrs


@attrs.define(kw_only=True)
class StopSchedule:
    """When a worker that was told to stop is helped along: seconds after the stop frame.

    The one value of a host that changes, with a reload: every worker, old or new, looks here when it stops.

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
    :ivar getpid: the pid of the server, asked late: twistd daemonizes after the tree was built.
    :ivar pidfd_open: pid to pidfd; None or one that raises OSError: reaping is polled.
    :ivar killpg: signals a process group.
    :ivar templates: the `twisted_rr.pool.templates.Templates` of the server, None: nothing is preloaded.
    :ivar start: starts a process, as `twisted_rr.pool.child.start` does; None: ``reactor.spawnProcess``.
    :ivar prepare: awaited before workers are started, such as `twisted_rr.pool.on_init.OnInit.run`.
    :ivar make_ends: makes a `twisted_rr.pool.relay.RelayEnds`; None: as ``server.relay`` says.
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
    getpid: Callable[[], int] = os.getpid
    pidfd_open: Callable[[int], int] | None = getattr(os, "pidfd_open", None)
    killpg: Callable[[int, int], None] = os.killpg
    templates: Any = None
    start: Callable[..., Any] | None = None
    prepare: Callable[[], Any] | None = None
    make_ends: Callable[[], Any] | None = None
