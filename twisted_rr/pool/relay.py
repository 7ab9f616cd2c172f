"""How a worker comes by its relay: a socket or a pipe each on its fd 0 and fd 1, or a listener it connects to.

What is said over it is `twisted_rr.pool.worker`'s subject; reading and writing are net/'s.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from twisted.application.service import Service

from twisted_rr.errors import FrameError, ListenError
from twisted_rr.net.descriptor import RelayDescriptor, relay_pair, widen
from twisted_rr.pool.handshake import Answer, Handshake
from twisted_rr.pool.settings import ServerSettings
from twisted_rr.pool.spec import resolve_identity

# Bytes that a pipe is asked to hold. A pipe takes no memory before it is used, but each counts against what the
# kernel lets a user's pipes hold in all (64 MiB).
ANSWERS: Final = 1048576
CALLS: Final = 262144


class RelayEnds(Protocol):
    """Both ends of a relay between its making and the worker's start."""

    stdin: int
    stdout: int

    def attach(self, reactor: Any, turn: Any, owner: Any) -> Any:
        """The server's end on the reactor, None when the worker has yet to connect."""

    def close(self) -> None:
        """The worker has its ends, or will never have them: close ours of those."""


class Standard:
    """The relay on the worker's fd 0 and 1: one way each, and ours the other ends.

    One socket for both would wake a worker for nothing: while it waits for its next call in ``read``, the kernel
    tells it that there is room again for what it has written, and it goes back to sleep.
    """

    def __init__(self, ours: tuple[int, int], theirs: tuple[int, int]) -> None:
        """*ours*: what is read and what is written here; *theirs* the other ends, fd 0 and fd 1."""
        self._ours = ours
        self.stdin, self.stdout = theirs
        self._attached = False

    @classmethod
    def sockets(cls) -> Standard:
        """``server.relay: pipes`` as a rule: large bodies cost a fifth less through sockets than through pipes."""
        read, stdout = relay_pair()
        try:
            write, stdin = relay_pair()
        except OSError:
            read.close()
            stdout.close()
            raise
        return cls((read.detach(), write.detach()), (stdin.detach(), stdout.detach()))

    @classmethod
    def pipes(cls) -> Standard:
        """Two pipes, the quickest for one call at a time; some workers open /dev/stdin by path, which needs one."""
        read, stdout = _pipe(ANSWERS)
        try:
            stdin, write = _pipe(CALLS)
        except OSError:
            _close(read, stdout)
            raise
        return cls((read, write), (stdin, stdout))

    def attach(self, reactor: Any, turn: Any, owner: Any) -> RelayDescriptor:
        self._attached = True
        return RelayDescriptor.from_pipes(*self._ours, reactor, turn, owner)

    def close(self) -> None:
        _close(self.stdin, self.stdout)
        if not self._attached:
            _close(*self._ours)


def _pipe(size: int) -> tuple[int, int]:
    """What is read and what is written of a new pipe that holds *size* bytes, or what the kernel gives."""
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, size)
    except OSError:
        pass  # the user has as much of it as is allowed: it is slower for large bodies, not wrong
    return read, write


def _close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


def one_call(command: Sequence[str]) -> bool:
    """Whether *command* shows that its workers take one call at a time. If it does not, they tell when they are there."""
    program = command[0].rpartition("/")[2] if command else ""
    return program.startswith("php") or "--no-mux" in command


class NoPipes:
    """``server.relay: unix://..`` or ``tcp://..``: the worker's fd 0 and 1 lead nowhere, it will connect."""

    def __init__(self) -> None:
        self.stdin = self.stdout = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    def attach(self, reactor: Any, turn: Any, owner: Any) -> None:
        return None

    def close(self) -> None:
        os.close(self.stdin)


class RelayListener:
    """The one listener of ``server.relay: unix://path`` or ``tcp://host:port``, shared by all pools.

    A connection is matched to a worker by the pid it tells, which must be that of the process we started.
    Each has its own time limit; one that is wrong is dropped with a line and disturbs no other.
    """

    def __init__(
        self,
        address: str,
        reactor: Any,
        log: Any,
        timeout: float = 60.0,
        owner: tuple[int, int] | None = None,
        getpid: Callable[[], int] = os.getpid,
    ) -> None:
        """*owner*: uid and gid that workers run as, when a unix socket must be theirs too."""
        self.address = address
        self._reactor = reactor
        self._log = log
        self._timeout = timeout
        self._owner = owner
        self._getpid = getpid
        self._socket: socket.socket | None = None
        self._path = ""
        self._expected: dict[int, Callable[[socket.socket, Answer, bytes], None]] = {}
        self._refuse: dict[int, Callable[[str], object]] = {}
        self._introductions: set[Introduction] = set()

    def start(self) -> None:
        """Bind and listen. Idempotent. Raises ListenError."""
        if self._socket is not None:
            return
        try:
            self._socket = self._listen()
        except (OSError, ValueError) as error:
            raise ListenError(self.address, getattr(error, "strerror", None) or str(error)) from error
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Close the listener and whoever has not introduced itself. Idempotent."""
        if self._socket is None:
            return
        self._reactor.removeReader(self)
        self._socket.close()
        self._socket = None
        if self._path:
            _unlink_socket(self._path)
        for introduction in list(self._introductions):
            introduction.drop("the server stops")

    def expect(
        self,
        pid: int,
        taker: Callable[[socket.socket, Answer, bytes], None],
        refuse: Callable[[str], object] = lambda reason: None,
    ) -> None:
        """Give the connection that introduces itself as *pid* to *taker*, with what it said and wrote behind it.

        *refuse* is told why when its process group says what it must not; only over a unix socket can that be known.
        """
        self._expected[pid] = taker
        self._refuse[pid] = refuse

    def forget(self, pid: int) -> None:
        """Process *pid* has ended, or has its relay."""
        self._expected.pop(pid, None)
        self._refuse.pop(pid, None)

    @property
    def bound(self) -> Any:
        """The address in force: for tcp with port 0 the real one."""
        return None if self._socket is None else self._socket.getsockname()

    # ------------------------------------------------------------------ accepting

    def _listen(self) -> socket.socket:
        scheme, _, rest = self.address.partition("://")
        if scheme == "unix" and rest:
            return self._listen_unix(rest)
        host, _, port = rest.rpartition(":")
        if scheme != "tcp" or not port.isdigit():
            raise ValueError("expected unix://path or tcp://host:port")
        return _bound(socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port)))

    def _listen_unix(self, path: str) -> socket.socket:
        _unlink_socket(path)  # as RoadRunner does: a killed server leaves it behind
        old = os.umask(0o177)
        try:
            sock = _bound(socket.AF_UNIX, path)
        finally:
            os.umask(old)
        self._path = path
        if self._owner is not None:
            os.chown(path, *self._owner)
        return sock

    def fileno(self) -> int:
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        return "relay"

    def connectionLost(self, reason: object) -> None:
        self.stop()

    def doRead(self) -> None:
        for _ in range(64):
            if self._socket is None:
                return
            try:
                connection, _address = self._socket.accept()
            except OSError:
                return  # nothing left, or no fd left: those waiting are seen again at the next poll
            self._greet(connection)

    def _greet(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        widen(connection)
        introduction = Introduction(connection, self._reactor, self._timeout, self)
        self._introductions.add(introduction)
        introduction.start(self._getpid())

    # ------------------------------------------------------------------ called by an Introduction

    def introduced(self, introduction: Introduction, answer: Answer, rest: bytes) -> None:
        taker = self._expected.pop(answer.pid, None)
        if taker is None:
            introduction.drop(f"no worker of ours waits for a relay as pid {answer.pid}", lied=True)
            return
        self._refuse.pop(answer.pid, None)
        self._introductions.discard(introduction)
        taker(introduction.release(), answer, rest)

    def dropped(self, introduction: Introduction, reason: str, peer: int = 0) -> None:
        """*peer*: the process that said what it must not, where the kernel tells it."""
        self._introductions.discard(introduction)
        refuse = self._refuse.get(_group_of(peer)) if peer else None
        if refuse is not None:
            refuse(f"{reason}: behind a wrapper use exec, or server.relay: pipes")
            return
        self._log.warn(
            "relay {address}: a connection was dropped: {reason}", address=self.address, reason=reason
        )


class RelayService(Service):
    """Holds the `RelayListener` in the service tree, beside the pools: bound early, closed with them."""

    def __init__(self, listener: RelayListener) -> None:
        self.listener = listener

    def privilegedStartService(self) -> None:
        self.listener.start()

    def startService(self) -> None:
        Service.startService(self)
        self.listener.start()

    def stopService(self) -> None:
        Service.stopService(self)
        self.listener.stop()


def relay_service(server: ServerSettings, reactor: Any, log: Any) -> RelayService | None:
    """The listener that *server* asks for, None for ``pipes``. Raises ConfigError: no such user."""
    if server.relay == "pipes":
        return None
    identity = resolve_identity(server.user, server.group)
    owner = None if identity.uid is None or identity.gid is None else (identity.uid, identity.gid)
    return RelayService(RelayListener(server.relay, reactor, log, owner=owner))


class Introduction:
    """One accepted connection until it has told its pid."""

    def __init__(
        self, connection: socket.socket, reactor: Any, timeout: float, listener: RelayListener
    ) -> None:
        self._socket = connection
        self._reactor = reactor
        self._listener = listener
        self._timer: Any = reactor.callLater(timeout, self.drop, "it did not tell its pid in time")
        self._handshake: Handshake | None = None
        self._done = False

    def start(self, pid: int) -> None:
        self._handshake = Handshake(pid)
        self._reactor.addReader(self)
        try:
            self._socket.send(self._handshake.request)  # far less than a socket's buffer
        except OSError as error:
            self.drop(str(error))

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "relay"

    def connectionLost(self, reason: object) -> None:
        self.drop("it was closed")

    def doRead(self) -> None:
        assert self._handshake is not None
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.drop(str(error))
            return
        if not data:
            self.drop("it was closed before it told its pid")
            return
        try:
            answer = self._handshake.feed(data)
        except FrameError as error:
            self.drop(str(error), lied=True)
            return
        if answer is not None:
            self._listener.introduced(self, answer, self._handshake.rest())

    def release(self) -> socket.socket:
        """Take the socket off the reactor; it is the caller's now."""
        self._end()
        return self._socket

    def drop(self, reason: str, lied: bool = False) -> None:
        if self._done:
            return
        self._end()
        peer = _peer(self._socket) if lied else 0
        self._socket.close()
        self._listener.dropped(self, reason, peer)

    def _end(self) -> None:
        self._done = True
        if self._timer.active():
            self._timer.cancel()
        self._reactor.removeReader(self)


def _peer(connection: socket.socket) -> int:
    """The process at the other end, as the kernel knows it; 0 where it does not."""
    if connection.family != socket.AF_UNIX:
        return 0
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def _group_of(pid: int) -> int:
    """Its process group, which is the pid of the worker that it belongs to."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _bound(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1024)
    except BaseException:
        sock.close()
        raise
    return sock


def _unlink_socket(path: str) -> None:
    """Remove a socket, and nothing but a socket."""
    import stat

    try:
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    except FileNotFoundError:
        pass
