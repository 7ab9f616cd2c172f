"""A reactor without a world: a clock, processes that the test ends, signals that are only recorded.

It opens nothing. Descriptors given to it are remembered; nothing is ever readable unless the test says so.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure


class FakeProcess:
    """A process that `FakeReactor.spawnProcess` made.

    ``argv``, ``env``, ``fds`` are what it was started with, ``signals`` what it was sent, in order.
    The test lets it speak (`stderr`, `status`) and end (`exit`). SIGKILL ends it by itself unless
    ``stubborn``; other signals only when named in ``obeys``.
    """

    def __init__(
        self, reactor: FakeReactor, pid: int, protocol: Any, argv: Sequence[Any], env: Any, fds: Any
    ):
        self.reactor = reactor
        self.pid: int | None = pid
        self.number = pid
        self.protocol = protocol
        self.argv = list(argv)
        self.env = dict(env or {})
        self.fds = dict(fds or {})
        self.signals: list[int] = []
        self.obeys: set[int] = {signal.SIGKILL}
        self.closed: list[int] = []
        self.reaps = 0

    @property
    def alive(self) -> bool:
        return self.pid is not None

    def signalProcess(self, name: str | int) -> None:
        if self.pid is None:
            raise ProcessExitedAlready()
        number = name if isinstance(name, int) else int(getattr(signal, "SIG" + name))
        self.signals.append(number)
        if number in self.obeys:
            self.reactor.callLater(0, self._end_by, number)

    def _end_by(self, number: int) -> None:
        if self.pid is not None:
            self.exit(signal=number)

    def stderr(self, data: bytes) -> None:
        """The process writes to its standard error."""
        self.protocol.childDataReceived(2, data)

    def status(self, data: bytes) -> None:
        """The launcher reports a failure on the status descriptor."""
        self.protocol.childDataReceived(3, data)

    def exit(self, code: int = 0, signal: int | None = None, ended: bool = True) -> None:
        """The process ends; *ended* False: a grandchild keeps its standard error open."""
        self.pid = None
        reason: Failure
        if code == 0 and signal is None:
            reason = Failure(ProcessDone(0))
        else:
            reason = Failure(ProcessTerminated(None if signal else code, signal, signal or code << 8))
        self.protocol.processExited(reason)
        if ended:
            self.protocol.processEnded(reason)

    def closeChildFD(self, fd: int) -> None:  # noqa: N802
        self.closed.append(fd)

    def loseConnection(self) -> None:
        self.closed.append(-1)

    def reapProcess(self) -> None:
        self.reaps += 1


class FakeReactor(Clock):
    """``processes`` has every process started, ``readers`` and ``writers`` the descriptors added.

    ``spawn_error`` set to an exception: the next ``spawnProcess`` raises it.
    """

    def __init__(self, first_pid: int = 1001) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []
        self.readers: list[Any] = []
        self.writers: list[Any] = []
        self.spawn_error: Exception | None = None
        self._pid = first_pid

    @property
    def alive(self) -> list[FakeProcess]:
        return [process for process in self.processes if process.alive]

    def spawnProcess(
        self,
        protocol: Any,
        executable: Any,
        args: Sequence[Any] = (),
        env: Mapping[Any, Any] | None = None,
        childFDs: Mapping[int, Any] | None = None,  # noqa: N803
    ) -> FakeProcess:
        if self.spawn_error is not None:
            error, self.spawn_error = self.spawn_error, None
            raise error
        process = FakeProcess(self, self._pid, protocol, args, env, childFDs)
        self._pid += 1
        self.processes.append(process)
        protocol.makeConnection(process)
        return process

    def killpg(self, group: int, number: int) -> None:
        """What ``os.killpg`` is to the real thing; the `killpg` of a `PoolHost`."""
        for process in self.processes:
            if process.number == group and process.alive:
                process.signalProcess(number)
                return
        raise ProcessLookupError(group)

    def pidfd_open(self, pid: int) -> int:
        """A descriptor that is never readable, because the test itself ends processes."""
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def addReader(self, reader: Any) -> None:
        if reader not in self.readers:
            self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        if reader in self.readers:
            self.readers.remove(reader)

    def addWriter(self, writer: Any) -> None:
        if writer not in self.writers:
            self.writers.append(writer)

    def removeWriter(self, writer: Any) -> None:
        if writer in self.writers:
            self.writers.remove(writer)

    def getReaders(self) -> list[Any]:  # noqa: N802
        return list(self.readers)

    def getWriters(self) -> list[Any]:  # noqa: N802
        return list(self.writers)
