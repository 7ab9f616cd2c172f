"""The server's side of one template of ``--preload``: it has imported an application, and forks workers on request.

A template is a process of ours that is asked over a socket pair, one JSON object a packet, with the new worker's
descriptors beside it. The worker that it forks becomes our own child, because the server is a subreaper: it does
not die with the template. Wherever that cannot be done, the worker is started as any other. Which templates there are is
templates.py's subject, what happens in the template that of `twisted_rr.worker.template`.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs
from twisted.internet.defer import Deferred

from twisted_rr.pool.process import Ending, WorkerProcess
from twisted_rr.pool.spec import LaunchSpec
from twisted_rr.wire.control import encode_pid_request

if TYPE_CHECKING:
    from twisted_rr.pool.templates import Templates

VARIABLE: Final = "RR_TEMPLATE"
AT_ONCE: Final = 8  # requests that a template has not answered yet
ANSWER: Final = 10.0  # seconds in which it has to
LEAVE: Final = 2.0  # seconds that one gets to end by itself
LOWEST: Final = 10
HEADER: Final = 12  # bytes of a frame's header


@attrs.frozen(eq=False)
class Birth:
    """A worker that is to be forked.

    ``stdin``, ``stdout``: its relay, copies of ours. ``errors``: both ends of the pipe that is its standard error.
    """

    process: WorkerProcess
    spec: LaunchSpec
    stdin: int
    stdout: int
    errors: tuple[int, int]

    @classmethod
    def make(cls, process: WorkerProcess, spec: LaunchSpec, stdin: int, stdout: int) -> Birth:
        """Raises OSError."""
        fds: list[int] = []
        try:
            for fd in (stdin, stdout):
                fds.append(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOWEST))
            return cls(process, spec, fds[0], fds[1], os.pipe())
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise

    def forked(self, pid: int) -> None:
        """Here it is."""
        for fd in (self.stdin, self.stdout, self.errors[1]):
            os.close(fd)
        self.process.adopt(pid, {2: self.errors[0]})

    def alone(self, start: Callable[[LaunchSpec, WorkerProcess, int, int], None]) -> None:
        """It is started without a template after all, by *start*; where that fails too, its owner is told."""
        for fd in self.errors:
            os.close(fd)
        try:
            start(self.spec, self.process, self.stdin, self.stdout)
        except OSError as error:
            self.process.failed(error.errno or errno.EAGAIN)
        finally:
            os.close(self.stdin)
            os.close(self.stdout)

    def withdrawn(self) -> None:
        """It is not wanted any more."""
        for fd in (self.stdin, self.stdout, *self.errors):
            os.close(fd)


class Template:
    """One template process. ``pid`` is 0 before it runs; `over` once it forks no more.

    :ivar refused: why it cannot fork, empty when it can.
    :ivar lost: why it is `over`, when it was not told to end.
    :ivar since: when it was started, or got ready, monotonic.
    """

    def __init__(self, spec: LaunchSpec, templates: Templates) -> None:
        """Start it. Raises OSError."""
        self.over = False
        self.ready = False
        self.refused = ""
        self.lost = ""
        self._spec = spec
        self._templates = templates
        self._reactor = templates.reactor
        self.since: float = templates.reactor.seconds()
        self._log = templates.log
        self._waiting: deque[Birth] = deque()
        self._asked: dict[int, Birth] = {}
        self._number = 0
        self._timer: Any = None
        self._retiring = False
        self._gone: list[Deferred[None]] = []
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setblocking(False)
        self.process = templates.make_process(self)
        env = {**spec.env, VARIABLE: "1"}
        try:
            # A program that is no template takes this for its server's greeting, and shows itself by its answer.
            # In two packets, because what it does not read of one packet is lost.
            greeting = encode_pid_request(templates.getpid())
            self._channel.send(greeting[:HEADER])
            self._channel.send(greeting[HEADER:])
            self.process.spawn(attrs.evolve(spec, env=env, preload=0.0), theirs.fileno(), theirs.fileno())
        except BaseException:
            self._channel.close()
            raise
        finally:
            theirs.close()
        self._reactor.addReader(self)
        self._schedule(spec.preload, "it was not ready in time")

    @property
    def pid(self) -> int:
        return self.process.pid

    # ------------------------------------------------------------------ requests

    def add(self, birth: Birth) -> None:
        """Fork a worker; it is started otherwise where that fails."""
        self._waiting.append(birth)
        self._ask()

    def withdraw(self, process: WorkerProcess) -> bool:
        """True: it was not asked for yet, and will not be."""
        for birth in self._waiting:
            if birth.process is process:
                self._waiting.remove(birth)
                birth.withdrawn()
                return True
        return False

    def _ask(self) -> None:
        while self.ready and self._waiting and len(self._asked) < AT_ONCE:
            birth = self._waiting.popleft()
            self._number += 1
            self._asked[self._number] = birth
            request = {"fork": self._number, "server": self._templates.getpid()}
            fds = [birth.stdin, birth.stdout, birth.errors[1]]
            try:
                socket.send_fds(self._channel, [json.dumps(request).encode()], fds)
            except OSError as error:
                self._lose(f"it cannot be asked: {error.strerror}")
                return
            self._schedule(ANSWER, "it does not answer")
        if self._retiring and not self._waiting and not self._asked:
            self._dismiss()

    # ------------------------------------------------------------------ answers (IReadDescriptor)

    def fileno(self) -> int:
        return self._channel.fileno()

    def logPrefix(self) -> str:
        return "template"

    def connectionLost(self, reason: object) -> None:
        self._lose("its channel is lost")

    def doRead(self) -> None:
        while not self.over:
            try:
                data = self._channel.recv(65536)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it ended with something unread; what it said before is still there, and then the end
            except OSError:
                data = b""
            if not data:
                self._lose("it has ended")
                return
            try:
                message = json.loads(data)
            except ValueError:
                message = None
            self._told(message if isinstance(message, dict) else {})

    def _told(self, message: dict[str, Any]) -> None:
        birth = self._asked.pop(message.get("forked", message.get("failed", 0)), None)
        if "refused" in message:
            self.refused = str(message["refused"])
            self._lose(self.refused)
            return
        if message.get("ready"):
            self.ready = True
            self.since = self._reactor.seconds()
            self.process.release()
            self._log.info(
                "template {pid} has imported the application, workers are forked from it",
                event="template_ready",
                pid=self.pid,
            )
        elif birth is None:
            self.refused = "its program is no worker of twisted_rr.worker"
            self._lose(self.refused)
            return
        elif "forked" in message:
            birth.forked(int(message["pid"]))
        else:
            self._log.warn(
                "template {pid} could not fork: {reason}", pid=self.pid, reason=message.get("reason")
            )
            birth.alone(self._templates.start_alone)
        self._cancel_timer()
        if self._asked:
            self._schedule(ANSWER, "it does not answer")
        self._ask()

    # ------------------------------------------------------------------ the end

    def _lose(self, reason: str) -> None:
        """No more from this one: who waits is started otherwise."""
        if self.over:
            return
        self.lost = reason
        if not self._retiring or self._asked or self._waiting:
            self._log.warn(
                "template {pid} is given up, workers are started one by one: {reason}",
                event="template_lost",
                pid=self.pid,
                reason=reason,
            )
        births = [*self._asked.values(), *self._waiting]
        self._asked.clear()
        self._waiting.clear()
        self._dismiss()
        for birth in births:
            birth.alone(self._templates.start_alone)

    def retire(self) -> None:
        """Fork what was asked for so far, then end."""
        self._retiring = True
        if not self.over and self.ready:
            self._ask()
        elif not self.over and not self._waiting:
            self._dismiss()

    def _dismiss(self) -> None:
        self.over = True
        self._cancel_timer()
        self._reactor.removeReader(self)
        self._channel.close()  # which tells it to end
        if self.process.alive:
            self._timer = self._reactor.callLater(LEAVE, self.kill)

    def kill(self) -> None:
        """SIGKILL to its group. Workers that it has forked are in groups of their own."""
        self.process.signal(signal.SIGKILL)

    def stop(self) -> Deferred[None]:
        """End it, and ask for no more; fires when it has been reaped."""
        gone: Deferred[None] = Deferred()
        for birth in self._waiting:
            birth.process.never_ran()
            birth.withdrawn()
        self._waiting.clear()
        if not self.over:
            self._retiring = True
            if self._asked:
                self._schedule(LEAVE, "the server stops")
            else:
                self._dismiss()
        if not self.ready:
            self.kill()  # it imports, and would not listen before it has done so
        if not self.process.alive:
            gone.callback(None)
        else:
            self._gone.append(gone)
        return gone

    def process_exited(self, ending: Ending) -> None:
        self._templates.heard_out(self)
        self._templates.exited(self)
        waiters, self._gone = self._gone, []
        for waiter in waiters:
            waiter.callback(None)
        if self.over:
            self._cancel_timer()
        else:
            self.doRead()  # what it said before still counts
            # Workers that are being forked hold its end of the channel; its end comes when they have spoken.
            self._cancel_timer()
            self._schedule(LEAVE, f"it ended with {ending}")

    def _schedule(self, seconds: float, reason: str) -> None:
        self._cancel_timer()
        if not self.over:
            self._timer = self._reactor.callLater(seconds, self._lose, reason)

    def _cancel_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
