"""Listening sockets: bound first, listening later, closed without resetting anybody.

A bound socket that does not listen refuses connects, so no client waits in a queue nobody serves; and
binding may need privileges that serving does not. Leaves out who owns the ports and when they open or
close (lifecycle/), and TLS, which a wrapping factory adds.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import Any, ClassVar, Final

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from zope.interface import implementer

from twisted_rr.errors import ListenError
from twisted_rr.log import logger
from twisted_rr.net.address import (
    TCPAddress,
    UnixAddress,
    parse_address,
    plain_name,
    twisted_address,
)
from twisted_rr.net.transport import TCPTransport, UNIXTransport

BACKLOG: Final = 4096  # the kernel lowers it to net.core.somaxconn
ACCEPTS: Final = 64  # a turn, so that a flood of connects leaves time for those accepted
LAST_ACCEPTS: Final = 65536  # in finish: an end to a loop that others feed
PAUSE: Final = 0.2  # seconds without accepting when file descriptors or memory ran out

# accept(2): these concern one connection that died in the queue; the next one may be fine.
PASSING: Final = frozenset(
    {
        errno.ECONNABORTED,
        errno.EPERM,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EOPNOTSUPP,
        errno.ETIMEDOUT,
    }
)

#: The process, or the machine, has no file descriptors left.
FDS: Final = frozenset((errno.EMFILE, errno.ENFILE))

#: Linux has it; elsewhere the kernel goes its own way.
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)

log: Final = logger("net")


class Reserve:
    """Open fds without a use, given up one by one when there are no others: to refuse a client, or to serve a few."""

    def __init__(self, count: int = 1) -> None:
        self._count = count
        self._fds: list[int] = []

    def hold(self) -> None:
        """Open as many as there are to be, if there is room."""
        while len(self._fds) < self._count:
            try:
                self._fds.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
            except OSError:
                return  # tried again at the next shortage

    def release(self) -> bool:
        """Close one; False when none was held."""
        if not self._fds:
            return False
        os.close(self._fds.pop())
        return True

    def end(self) -> None:
        """Close all, and hold none any more."""
        self._count = 0
        while self.release():
            pass


RESERVE: Final = Reserve()


def in_words(error: OSError) -> str:
    """An error as people know it, with its name: ``address already in use (EADDRINUSE)``."""
    if error.errno is None:
        return str(error)
    name = errno.errorcode.get(error.errno, f"errno {error.errno}")
    return f"{os.strerror(error.errno).lower()} ({name})"


def bind(address: str, mode: int | None = None) -> BoundPort:
    """Bind *address* (see `parse_address`); nothing listens yet, so a connect is refused.

    *mode* is the permission of a unix socket's file, by default what the umask leaves. A socket file
    that nobody listens on is replaced.

    :raises ListenError: with the reason and its errno in words.
    """
    parsed = parse_address(address)
    if isinstance(parsed, UnixAddress):
        return _bind_unix(parsed, mode)
    return _bind_tcp(parsed)


def adopt(fd: int) -> BoundPort:
    """Take over a bound stream socket that this process inherited.

    Its file is neither chmod'ed nor removed, and connections left in its queue at the end stay there for
    whoever holds the socket too.

    :raises ListenError: *fd* is no stream socket.
    """
    name = f"fd {fd}"
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise ListenError(name, in_words(error)) from error
    if sock.type != socket.SOCK_STREAM or sock.family not in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    ):
        sock.detach()
        raise ListenError(name, "expected a TCP or unix stream socket")
    if _is_connected(sock):
        sock.detach()
        raise ListenError(name, "expected a listening socket, not a connection (Accept=yes)")
    sock.set_inheritable(False)
    return BoundPort(sock, inherited=True)


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _bind_tcp(address: TCPAddress) -> BoundPort:
    if address.host in ("", "::"):
        try:
            return BoundPort(_tcp_socket(socket.AF_INET6, ("::", address.port)))
        except OSError as error:
            without = error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
            if address.host or not without:
                raise ListenError(str(address), _explain(error, address)) from error
            address = TCPAddress("0.0.0.0", address.port)
    try:
        family, name = _resolve(address)
        return BoundPort(_tcp_socket(family, name))
    except UnicodeError as error:
        # Python's own check of host names: 127.0.0..1 has an empty part.
        reason = f"{address.host!r} cannot be a host: a part of it is empty or too long"
        raise ListenError(str(address), reason) from error
    except OSError as error:
        raise ListenError(str(address), _explain(error, address)) from error


def _resolve(address: TCPAddress) -> tuple[int, Any]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # One address is bound; of a name with both, such as localhost, the IPv4 one, as Go does.
    first = min(found, key=lambda item: item[0] != socket.AF_INET)
    return first[0], first[4]


def _tcp_socket(family: int, name: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(name[0] != "::"))
        sock.bind(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _explain(error: OSError, address: TCPAddress) -> str:
    if isinstance(error, socket.gaierror):
        return f"{address.host!r} is not a known host ({error.strerror})"
    words = in_words(error)
    if error.errno == errno.EACCES and address.port < 1024:
        return f"{words}: a port below 1024 needs root or CAP_NET_BIND_SERVICE"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{words}: no interface of this machine has it"
    return words


def _bind_unix(address: UnixAddress, mode: int | None) -> BoundPort:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if not address.abstract:
            _remove_stale(address)
        sock.bind(address.name)
        # Between bind and chmod nobody can connect: the socket does not listen yet.
        if mode is not None and not address.abstract:
            os.chmod(address.path, mode)
    except OSError as error:
        sock.close()
        raise ListenError(str(address), _explain_unix(error, address)) from error
    except BaseException:
        sock.close()
        raise
    return BoundPort(sock)


def _explain_unix(error: OSError, address: UnixAddress) -> str:
    words = in_words(error)
    if error.errno == errno.ENOENT:
        return f"{words}: the folder {os.path.dirname(address.path) or '.'} does not exist"
    return words


def _remove_stale(address: UnixAddress) -> None:
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(str(address), "the path exists and is not a socket")
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    probe.setblocking(False)
    try:
        probe.connect(address.path)
    except ConnectionRefusedError:
        os.unlink(address.path)
        return
    except BlockingIOError:
        pass  # its queue is full: very much alive
    finally:
        probe.close()
    raise ListenError(str(address), "address already in use (EADDRINUSE): another process listens there")


@implementer(IListeningPort, IReadDescriptor)
class BoundPort:
    """A bound socket: `listen` opens it, `finish` ends it in order, `close` at once.

    :ivar address: where it is bound, with the real port after ``:0``, in the form that `bind` reads.
    :ivar inherited: it was taken over by `adopt`.
    """

    rr_direct: ClassVar[bool] = False
    _realPortNumber: int | None = None  # noqa: N815  Twisted's transports show it in their repr

    def __init__(self, sock: socket.socket, inherited: bool = False) -> None:
        sock.setblocking(False)
        self._socket: socket.socket | None = sock
        self.inherited = inherited
        self._unix = sock.family == socket.AF_UNIX
        self._name: Any = sock.getsockname()
        self._path = ""
        self._file: tuple[int, int] | None = None
        if self._unix:
            name = os.fsdecode(self._name)
            self.address = str(UnixAddress("@" + name[1:] if name.startswith("\0") else name))
            if not inherited:
                self._path = os.path.abspath(name)  # the process may change its folder later
                self._file = _identity(self._path)
        else:
            self.address = str(TCPAddress(plain_name(self._name)[0], self._name[1]))
            self._realPortNumber = self._name[1]
        self._factory: Any = None
        self._reactor: Any = None
        self._timer: Any = None
        self._spare: Reserve | None = None
        self._sessions = 0

    def __repr__(self) -> str:
        state = "closed" if self._socket is None else "listening" if self._factory else "bound"
        return f"<port {self.address} ({state})>"

    @property
    def listening(self) -> bool:
        """True from `listen` until it is closed."""
        return self._factory is not None

    def listen(self, factory: Any, reactor: Any, backlog: int = BACKLOG, spare: int = 0) -> None:
        """Accept connections for *factory* from now on.

        *spare* fds are kept for them: as many connections at once are served when the process has no others left.

        :raises ListenError: the kernel refuses, or the port was closed.
        """
        if self._socket is None or self._factory is not None:
            raise ListenError(self.address, "closed" if self._socket is None else "already listening")
        try:
            # The queue of an inherited socket that listens already is as long as its owner wants it.
            if not self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                self._socket.listen(backlog)
        except OSError as error:
            raise ListenError(self.address, in_words(error)) from error
        RESERVE.hold()
        if spare:
            self._spare = Reserve(spare)
            self._spare.hold()
        self._factory = factory
        self._reactor = reactor
        factory.doStart()
        reactor.addReader(self)

    def limit_silence(self, seconds: float) -> None:
        """End connections accepted from now on when what was sent to them is not acknowledged for so long; 0: the kernel's way.

        The kernel keeps this time itself (TCP_USER_TIMEOUT, inherited by what is accepted), also when everything is in
        its buffers and nobody here waits: a peer that vanished would else be sent to for a quarter of an hour.
        """
        if self._socket is not None and not self._unix and _USER_TIMEOUT is not None:
            milliseconds = min(int(seconds * 1000), 2**31 - 1)
            self._socket.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, milliseconds)

    def finish(self) -> int:
        """Take every connection that waits in the queue, then close; returns how many were taken.

        Closing alone resets those whose handshake the kernel has done. The queue of an inherited socket is not
        ours: it stays, with all who wait in it, for whoever holds the socket too. Synchronous.
        """
        taken = 0
        if self._socket is not None and self._factory is not None and not self.inherited:
            self._socket.listen(0)
            # Twice: between the first EAGAIN and here a handshake may have been completed.
            taken = self._accept(LAST_ACCEPTS) + self._accept(LAST_ACCEPTS)
        self.close()
        return taken

    def close(self) -> None:
        """Stop listening and release the address; connections go on. Idempotent."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        self._stop_timer()
        factory, self._factory = self._factory, None
        if factory is not None:
            self._socket = sock  # removeReader asks for our fileno
            self._reactor.removeReader(self)
            self._socket = None
        if self._file is not None and self._file == _identity(self._path):
            try:
                os.unlink(self._path)
            except OSError as error:
                log.debug("{address} could not be removed: {reason}", address=self.address, reason=error)
        sock.close()
        if self._spare is not None:
            self._spare.end()
        if factory is not None:
            factory.doStop()

    # -- for Twisted

    def startListening(self) -> None:
        """IListeningPort's; `listen` does it."""

    def stopListening(self) -> Deferred[None]:
        """`close`, for those who know an IListeningPort."""
        self.close()
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address | UNIXAddress:
        """Where it is bound, as Twisted's address object."""
        return UNIXAddress(self._name) if self._unix else twisted_address(plain_name(self._name))

    def fileno(self) -> int:
        """The listening fd, -1 when closed."""
        return -1 if self._socket is None else self._socket.fileno()

    def logPrefix(self) -> str:
        """For what a factory raises."""
        return f"port {self.address}"

    def connectionLost(self, reason: Any) -> None:
        """The reactor stops, or the socket broke."""
        self.close()

    def doRead(self) -> None:
        """Accept what waits, at most `ACCEPTS` connections."""
        self._accept(ACCEPTS)

    # -- accepting

    def _accept(self, most: int) -> int:
        taken = 0
        for _ in range(most):
            sock = self._socket
            if sock is None:
                break
            try:
                client, name = sock.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in PASSING:
                    continue
                if self._spare is not None and error.errno in FDS and self._spare.release():
                    continue
                self._short(error, most)
                break
            taken += 1
            try:
                self._connected(client, name)
            except Exception:
                log.failure("a connection to {address} could not be served", address=self.address)
                client.close()
        return taken

    def _connected(self, client: socket.socket, name: Any) -> None:
        number = self._sessions
        self._sessions = number + 1
        transport: Any
        if self._unix:
            protocol = self._factory.buildProtocol(UNIXAddress(name or None))
        else:
            name = plain_name(name)
            protocol = self._factory.buildProtocol(twisted_address(name))
        if protocol is None:
            client.close()
            return
        make: Any = UNIXTransport if self._unix else TCPTransport
        transport = make(client, protocol, name, self, number, self._reactor)
        if self._spare is not None:
            # In the turn in which its own is free again, lest somebody else takes it.
            transport.on_closed = self._spare.hold
        try:
            protocol.makeConnection(transport)
        except BaseException:
            # The reactor reads it already: whoever gets its number next would never be read.
            transport.abortConnection()
            raise

    def _short(self, error: OSError, most: int) -> None:
        """The process or the machine ran out of something: refuse who waits, then let accepting rest.

        A client that is refused goes elsewhere; one that stays in the queue hangs, and keeps the
        listening socket readable, which would spin the reactor.
        """
        refused = 0
        if error.errno in FDS and RESERVE.release():
            try:
                refused = self._refuse(most)
            finally:
                RESERVE.hold()
        log.warn(
            "{address} accepts nothing for {seconds} s: {reason}; {refused} refused",
            address=self.address,
            seconds=PAUSE,
            reason=in_words(error),
            refused=refused,
        )
        if self._timer is None:
            self._reactor.removeReader(self)
            self._timer = self._reactor.callLater(PAUSE, self._resume)

    def _refuse(self, most: int) -> int:
        for refused in range(most):
            try:
                if self._socket is not None:
                    self._socket.accept()[0].close()
            except OSError:
                return refused
        return most

    def _resume(self) -> None:
        self._timer = None
        if self._socket is not None:
            self._reactor.addReader(self)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode of a socket file, None when there is none (or the name is abstract)."""
    try:
        found = os.lstat(path)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino)
