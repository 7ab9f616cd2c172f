"""A pool with real worker processes on a reactor of its own, turned by the test."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.process import reapProcessHandlers

from twisted_rr.net.turn import turn_of
from twisted_rr.pool import child
from twisted_rr.pool.host import PoolHost, StopSchedule
from twisted_rr.pool.pool import WorkerPool
from twisted_rr.pool.settings import PoolSettings, ServerSettings
from twisted_rr.pool.spool import BodySpool
from twisted_rr.wire.frame import CODEC_RAW

WORKERS = Path(__file__).resolve().parent / "workers"


def command(script: str, *arguments: str) -> tuple[str, ...]:
    """The command line of one of our worker scripts."""
    return (sys.executable, str(WORKERS / script), *arguments)


class Head:
    def mux_context(self, codec: int) -> bytes:
        return b"\x90"

    def spool(self) -> BodySpool:
        return BodySpool(CODEC_RAW, b"{}")

    def describe(self) -> str:
        return "GET /"


class To:
    """A receiver that keeps the answer: `body` once it is complete, `error` once it failed."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.body: bytes | None = None
        self.error: Exception | None = None
        self.ends = 0

    @property
    def done(self) -> bool:
        return self.ends > 0

    def context(self, codec: int, context: bytes, body: bytes, more: bool) -> None:
        self.data(body, more)

    def data(self, body: bytes, more: bool) -> None:
        self.pieces.append(body)
        if not more:
            self.body = b"".join(self.pieces)
            self.ends += 1

    def failed(self, error: Exception) -> None:
        self.error = error
        self.ends += 1

    def writable(self) -> None:
        pass


class World:
    """``pool`` on ``reactor``; `until` turns the reactor. `close` ends everything and checks that nothing is left."""

    def __init__(
        self,
        server: ServerSettings | None = None,
        host: dict[str, Any] | Callable[[Any], dict[str, Any]] | None = None,
        **settings: Any,
    ) -> None:
        """*host*: fields of `PoolHost`, or what makes them for a reactor."""
        self.reactor: Any = EPollReactor()
        self.reactor.seconds = time.monotonic
        settings.setdefault("num_workers", 2)
        settings.setdefault("allocate_timeout", 20.0)
        host = dict(host(self.reactor) if callable(host) else host or {})
        host.setdefault("stop", StopSchedule(term=0.5, kill=1.0))
        host.setdefault("start", child.start)
        self.pool = WorkerPool(
            "http",
            "http",
            PoolSettings(**settings),
            server or ServerSettings(),
            PoolHost(reactor=self.reactor, turn=turn_of(self.reactor), environ=dict(os.environ), **host),
        )

    def until(self, what: Callable[[], Any], seconds: float = 20.0) -> Any:
        """Turn the reactor until *what* is true, and return it."""
        deadline = time.monotonic() + seconds
        while not (value := what()):
            assert time.monotonic() < deadline, f"not within {seconds} s"
            self.reactor.iterate(0.02)
        return value

    def outcome(self, deferred: Any, seconds: float = 20.0) -> Any:
        """What *deferred* fires with; a failure is raised."""
        seen: list[Any] = []
        deferred.addBoth(seen.append)
        self.until(lambda: seen, seconds)
        if hasattr(seen[0], "raiseException"):
            seen[0].raiseException()
        return seen[0]

    def start(self) -> World:
        self.pool.startService()
        self.outcome(self.pool.ready())
        return self

    def open(self, body: bytes) -> To:
        to = To()
        self.pool.open(Head(), body, False, to)
        return to

    def ask(self, body: bytes) -> bytes:
        """The answer to *body*."""
        to = self.open(body)
        self.until(lambda: to.done)
        assert to.error is None, to.error
        assert to.body is not None
        return to.body

    def pids(self) -> list[int]:
        return [worker.pid for worker in self.pool.workers()]

    def stop(self, seconds: float = 20.0) -> None:
        self.outcome(self.pool.stopService(), seconds)

    def close(self) -> None:
        """Stop, and leave no process and no descriptor behind."""
        pids = self.pids()
        if self.pool.running:
            self.pool.stopService()
        self.pool.hurry()
        self.until(lambda: not self.pool.crew.workers)
        self.reactor.iterate(0)
        left = [pid for pid in pids if pid in reapProcessHandlers]
        ours = (self.reactor.waker,)
        readers = [reader for reader in self.reactor.getReaders() if reader not in ours]
        self.reactor.removeAll()
        for fd in (self.reactor.waker.i, self.reactor.waker.o):
            os.close(fd) if isinstance(fd, int) else fd.close()
        self.reactor._poller.close()
        assert not left
        assert not [reader for reader in readers if "Waker" not in type(reader).__name__]


def alive(pid: int) -> bool:
    """Whether *pid* is a process that is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
