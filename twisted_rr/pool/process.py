"""One worker process: started through launch.py, its standard error read, its end noticed, its group signalled.

What goes over its relay is `twisted_rr.pool.worker`'s subject, what it is started with `twisted_rr.pool.spec`'s.
"""

from __future__ import annotations

import os
import re
import signal
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import attrs
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol

from twisted_rr.pool.child import Child
from twisted_rr.pool.spec import LaunchSpec

LINE = 8192  # bytes of one line of standard error that are logged
HELD = 500  # lines that are kept back at most
TAIL = 12  # lines kept for the error of a worker that does not start
_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")
POLL = 0.1  # seconds between two looks at a process that has no pidfd
READS = 64  # reads of what is left on standard error when the process has ended


@attrs.frozen
class Ending:
    """How a process ended.

    :ivar code: exit code, None when a signal ended it.
    :ivar signal: that signal, else None.
    :ivar step: the launcher's step that failed, empty when the worker's program was reached.
    :ivar errno: why that step failed.
    """

    code: int | None
    signal: int | None
    step: str = ""
    errno: int = 0

    def __str__(self) -> str:
        if self.step:
            return f"{self.step}: {os.strerror(self.errno)}"
        if self.signal is not None:
            return f"signal {self.signal}" + _name(self.signal)
        return f"exit code {self.code}"


def _name(number: int) -> str:
    try:
        text = signal.Signals(number).name
    except ValueError:
        return ""
    return f" ({text}, out of memory?)" if number == signal.SIGKILL else f" ({text})"


class ProcessOwner(Protocol):
    """Who started the process."""

    def process_exited(self, ending: Ending) -> None:
        """It has been reaped; called once, all it wrote to standard error has been read.

        An owner of what is preloaded has ``process_started`` besides: it is there.
        """


class Nursery(Protocol):
    """Who starts processes in a later turn: `twisted_rr.pool.templates.Templates`, `twisted_rr.pool.spawner.Spawner`."""

    def fork(self, spec: LaunchSpec, process: WorkerProcess, stdin: int, stdout: int) -> None:
        """`WorkerProcess.adopt` or `WorkerProcess.start_alone` follows, now or later. Raises OSError."""

    def withdraw(self, process: WorkerProcess) -> bool:
        """True: neither will follow. False: one of them may."""


class LineCutter:
    """Cuts bytes into lines of at most `LINE` bytes; what is longer is dropped and marked."""

    __slots__ = ("_kept", "_take")

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._kept = b""

    def feed(self, data: bytes) -> None:
        *lines, rest = (self._kept + data).split(b"\n")
        for line in lines:
            self._give(line)
        # One byte above the limit says that the line is longer; more of it is of no use.
        self._kept = rest[: LINE + 1]

    def end(self) -> None:
        """The stream has ended: a last line without its line feed counts."""
        rest, self._kept = self._kept, b""
        if rest:
            self._give(rest)

    def _give(self, line: bytes) -> None:
        line = line.rstrip(b"\r")
        text = line[:LINE].decode("utf-8", "backslashreplace")
        if len(line) > LINE:
            text += " [cut]"
        if text.strip():
            self._take(text)


class PidWatch:
    """Reaps the process as soon as its pidfd is readable, so that no SIGCHLD handler is needed.

    Where the kernel has no pidfd, it looks every `POLL` seconds.
    """

    def __init__(self, reactor: Any, process: Any, pid: int, pidfd_open: Callable[[int], int] | None) -> None:
        self._reactor = reactor
        self._process = process
        self._fd = -1
        self._timer: Any = None
        try:
            if pidfd_open is None:
                raise OSError
            self._fd = pidfd_open(pid)
        except OSError:
            self._timer = reactor.callLater(POLL, self._poll)
        else:
            reactor.addReader(self)

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "worker"

    def doRead(self) -> None:
        self._process.reapProcess()

    def connectionLost(self, reason: object) -> None:
        self.close()

    def _poll(self) -> None:
        self._timer = self._reactor.callLater(POLL, self._poll)
        self._process.reapProcess()

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        if self._fd >= 0:
            self._reactor.removeReader(self)
            os.close(self._fd)
            self._fd = -1


class WorkerProcess(ProcessProtocol):
    """A process started by `spawn`; ``pid`` is 0 before that, ``alive`` tells whether it has not been reaped.

    ``tail`` has the last lines of its standard error.
    """

    def __init__(
        self,
        owner: ProcessOwner,
        reactor: Any,
        log: Any,
        pidfd_open: Callable[[int], int] | None,
        killpg: Callable[[int, int], None] = os.killpg,
        kind: str = "worker",
        start: Callable[..., Any] | None = None,
        nursery: Nursery | None = None,
    ) -> None:
        """*kind* is what the process is called in the log, *start* is used in place of ``reactor.spawnProcess``.

        *nursery* starts what is to be preloaded.
        """
        self.pid = 0
        self.alive = False
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._owner = owner
        self._reactor = reactor
        self._log = log
        self._pidfd_open = pidfd_open
        self._killpg = killpg
        self._kind = kind
        self._start = start
        self._nursery = nursery
        self._held: list[str] | None = None
        self._unborn: int | None = (
            None  # the signal that waits for it, 0 for none; None: it is not waited for
        )
        self._stderr = LineCutter(self._line)
        self._stdout = LineCutter(self._line)
        self._status = b""
        self._seen = 0
        self._watch: PidWatch | None = None

    def spawn(self, spec: LaunchSpec, stdin: int, stdout: int | None) -> None:
        """Start it with these two descriptors; they stay the caller's. Raises OSError.

        Without *stdout* what it writes there is logged, as is its standard error. One that its nursery
        starts is there only when its owner is told (``process_started``); ``alive`` is true from now on.
        """
        if stdout is not None and self._nursery is not None:
            self.alive = True
            self._unborn = 0
            self._nursery.fork(spec, self, stdin, stdout)
        else:
            self._spawn(spec, stdin, stdout)

    def _spawn(self, spec: LaunchSpec, stdin: int, stdout: int | None) -> None:
        fds = {0: stdin, 1: "r" if stdout is None else stdout, 2: "r", 3: "r"}
        # Both use posix_spawn: a fork of a server with threads is no option.
        if self._start is not None:
            self._start(self._reactor, self, spec.executable, spec.argv, spec.env, childFDs=fds)
        else:
            self._reactor.spawnProcess(self, spec.executable, spec.argv, spec.env, childFDs=fds)

    def hold(self) -> None:
        """Keep what it writes out of the log until `release`: others may say the same."""
        if self._held is None:
            self._held = []

    @property
    def held(self) -> bool:
        return self._held is not None

    def release(self, drop: bool = False) -> None:
        """What was held goes to the log, or nowhere (*drop*); what comes from now on goes there at once."""
        held, self._held = self._held or [], None
        for text in () if drop else held:
            self._write(text)

    def said(self) -> tuple[str, ...]:
        """Its last lines without the numbers in them, by which one run differs from the next."""
        return tuple(_NUMBER.sub("#", line) for line in self.tail)

    def signal(self, number: int) -> None:
        """Send *number* to the whole process group; nothing when the process has been reaped."""
        if not self.alive:
            return
        if self._unborn is not None:
            self._signal_unborn(number)
            return
        try:
            self._killpg(self.pid, number)
        except ProcessLookupError:
            self._signal_alone(number)  # the launcher has not made the group yet
        except PermissionError:
            self._log.error(
                "worker {pid} cannot be sent signal {number}: not permitted", pid=self.pid, number=number
            )

    def _signal_alone(self, number: int) -> None:
        try:
            self.transport.signalProcess(number)  # type: ignore[union-attr]
        except ProcessExitedAlready:
            pass  # it is gone, and will be reaped

    # ------------------------------------------------------------------ called by the nursery

    def adopt(self, pid: int, reads: Mapping[int, int]) -> None:
        """It was started for us and is our child *pid*; *reads*: reading ends of its pipes, by its descriptors."""
        due, self._unborn = self._unborn, None
        Child(self._reactor, self, pid, reads)
        if due:
            self.signal(due)
        else:
            self._owner_started()

    def start_alone(self, spec: LaunchSpec, stdin: int, stdout: int) -> None:
        """It is started as any other after all."""
        if self._unborn:
            self.never_ran()
            return
        self._unborn = None
        self.alive = False
        try:
            self._spawn(spec, stdin, stdout)
        except OSError as error:
            self._owner.process_exited(Ending(127, None, "start", error.errno or 22))
            return
        if self.alive:
            self._owner_started()

    def failed(self, number: int) -> None:
        """It could not be started: the errno."""
        self._unborn = None
        self.alive = False
        self._owner.process_exited(Ending(127, None, "start", number))

    def never_ran(self) -> None:
        """It was killed before it was there, or nobody starts it any more; the owner learns of it in a later turn."""
        if self._unborn is not None:
            self._unborn = None
            self.alive = False
            self._reactor.callLater(0, self._owner.process_exited, Ending(None, signal.SIGKILL))

    def _owner_started(self) -> None:
        started: Callable[[], None] | None = getattr(self._owner, "process_started", None)
        if started is not None:
            started()

    def _signal_unborn(self, number: int) -> None:
        assert self._nursery is not None
        self._unborn = max(self._unborn or 0, number) if number != signal.SIGKILL else number
        if self._nursery.withdraw(self):
            self.never_ran()

    # ------------------------------------------------------------------ called by Twisted

    def connectionMade(self) -> None:
        transport: Any = self.transport
        self.pid = transport.pid
        self.alive = True
        self._watch = PidWatch(self._reactor, transport, self.pid, self._pidfd_open)

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        self._seen += len(data)
        if childFD == 2:
            self._stderr.feed(data)
        elif childFD == 1:
            self._stdout.feed(data)
        elif childFD == 3:
            self._status += data

    def childConnectionLost(self, childFD: int) -> None:  # noqa: N803
        if childFD == 2:
            self._stderr.end()
        elif childFD == 1:
            self._stdout.end()

    def processExited(self, reason: Any) -> None:
        """Death. Not processEnded: a grandchild that holds standard error would delay that one."""
        self.alive = False
        if self._watch is not None:
            self._watch.close()
        self._kill_rest()
        self._read_rest()
        self._owner.process_exited(self._ending(reason.value))

    # ------------------------------------------------------------------ the end

    def _kill_rest(self) -> None:
        try:
            self._killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left, which is the rule

    def _read_rest(self) -> None:
        """Take what still is in the pipes, then close them: a grandchild of another session may hold them open."""
        pipes: dict[int, Any] = getattr(self.transport, "pipes", {})
        for fd in (1, 2, 3):
            pipe = pipes.get(fd)
            if pipe is not None:
                self._read_pipe(pipe)
        self._stderr.end()
        self._stdout.end()
        if pipes:
            self.transport.loseConnection()  # type: ignore[union-attr]

    def _read_pipe(self, pipe: Any) -> None:
        for _ in range(READS):
            before = self._seen
            if pipe.doRead() is not None or self._seen == before:
                return

    def _ending(self, error: Any) -> Ending:
        step, _, number = self._status.partition(b" ")
        return Ending(
            error.exitCode,
            error.signal,
            step.decode("ascii", "replace"),
            int(number) if number.isdigit() else 0,
        )

    def _line(self, text: str) -> None:
        self.tail.append(text)
        if self._held is None:
            self._write(text)
            return
        self._held.append(text)
        if len(self._held) >= HELD:
            self.release()

    def _write(self, text: str) -> None:
        self._log.info("{kind} {pid}: {line}", kind=self._kind, pid=self.pid, line=text)
