"""A child process of the server as a `ProcessProtocol` sees it: one that is started here, or one that was adopted.

`start` takes the place of ``reactor.spawnProcess``. That one asks for every open descriptor first, in Python: 35 ms
of the reactor's time at 5,000 connections. Here nothing is asked, because all of ours are closed at exec and the
launcher closes whatever else came along. What a worker is started with is `twisted_rr.pool.spec`'s subject, who
notices its end `twisted_rr.pool.process`'s.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from typing import Any, Final

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure

READ: Final = 65536
#: Children that have not been reaped, and the process groups that they and earlier ones made.
running: Final[set[int]] = set()
groups: Final[dict[int, None]] = {}
MOST_GROUPS: Final = 4096

ABOVE: Final = 10  # descriptors below this number might be in the way of a child's own 0 to 3


class ReadPipe:
    """One pipe that the child writes to."""

    def __init__(self, reactor: Any, child: Child, name: int, fd: int) -> None:
        os.set_blocking(fd, False)
        self._reactor = reactor
        self._child = child
        self._name = name
        self._fd = fd
        reactor.addReader(self)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "child"

    def doRead(self) -> Any:
        """Take what is there; at the end of the pipe CONNECTION_DONE, as reactors expect it."""
        try:
            data = os.read(self._fd, READ)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_DONE
        if not data:
            return CONNECTION_DONE
        self._child.data(self._name, data)
        return None

    def connectionLost(self, reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Read no more. Idempotent."""
        if self._fd < 0:
            return
        self._reactor.removeReader(self)
        os.close(self._fd)
        self._fd = -1
        self._child.pipe_closed(self._name)


class Child:
    """The transport of *protocol*: ``pid`` until it has been reaped, and the pipes that are read.

    Nobody is told of its end before `reapProcess` is called by whoever sees it.
    """

    def __init__(self, reactor: Any, protocol: Any, pid: int, reads: Mapping[int, int]) -> None:
        """*reads*: the child's descriptor by name, our reading end of its pipe, which is ours from now on."""
        self.pid: int | None = pid
        running.add(pid)
        groups[pid] = None
        if len(groups) > MOST_GROUPS:
            del groups[next(iter(groups))]
        self._protocol = protocol
        self._ended: Failure | None = None
        self.pipes = {name: ReadPipe(reactor, self, name, fd) for name, fd in reads.items()}
        protocol.makeConnection(self)

    def reapProcess(self) -> None:
        """If it has ended, tell how; called as often as one likes."""
        if self.pid is None:
            return
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            self._over(Failure(ProcessTerminated()))  # somebody else has reaped it, and knows how it ended
            return
        if pid:
            self._over(_reason(status))

    def signalProcess(self, number: int) -> None:
        """Send a signal. Raises ProcessExitedAlready."""
        if self.pid is None:
            raise ProcessExitedAlready()
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            raise ProcessExitedAlready() from None

    def loseConnection(self) -> None:
        """Close every pipe."""
        for pipe in list(self.pipes.values()):
            pipe.close()

    def data(self, name: int, data: bytes) -> None:
        """A pipe gave *data*."""
        self._protocol.childDataReceived(name, data)

    def pipe_closed(self, name: int) -> None:
        """A pipe has come to its end."""
        self.pipes.pop(name, None)
        self._protocol.childConnectionLost(name)
        self._check_ended()

    def _over(self, reason: Failure) -> None:
        if self.pid is not None:
            running.discard(self.pid)
        self.pid = None
        self._protocol.processExited(reason)
        self._ended = reason
        self._check_ended()

    def _check_ended(self) -> None:
        if self._ended is not None and not self.pipes:
            reason, self._ended = self._ended, None
            self._protocol.processEnded(reason)


def _reason(status: int) -> Failure:
    if os.WIFSIGNALED(status):
        return Failure(ProcessTerminated(None, os.WTERMSIG(status), status))
    code = os.WEXITSTATUS(status)
    return Failure(ProcessTerminated(code, None, status) if code else ProcessDone(status))


def start(
    reactor: Any,
    protocol: Any,
    executable: str,
    argv: Sequence[str],
    env: Mapping[str, str],
    childFDs: Mapping[int, Any],  # noqa: N803
) -> Child:
    """Start *executable*, which has to close what is not in *childFDs* itself, as the launcher does.

    *childFDs* as for ``spawnProcess``: a descriptor of ours that stays the caller's, or ``"r"`` for a pipe that is
    read. Raises OSError.
    """
    reads: dict[int, int] = {}
    ends: list[int] = []  # to be closed here when the child has them
    actions: list[tuple[int, int, int]] = []
    try:
        for name, target in childFDs.items():
            fd = target
            if target == "r":
                reads[name], fd = os.pipe()
                ends.append(fd)
            if fd < ABOVE:
                fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ABOVE)
                ends.append(fd)
            actions.append((os.POSIX_SPAWN_DUP2, fd, name))
        pid = os.posix_spawn(executable, tuple(argv), env, file_actions=actions)
    except BaseException:
        for fd in reads.values():
            os.close(fd)
        raise
    finally:
        for fd in ends:
            os.close(fd)
    return Child(reactor, protocol, pid, reads)
