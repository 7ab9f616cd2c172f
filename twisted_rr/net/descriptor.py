"""One read/write descriptor on the reactor for a worker's relay: a stream socket, or a pair of pipes.

Bytes in go to the owner as they come; bytes out are pulled from the owner once a turn, until it has
none or the kernel takes no more. Leaves out frames (wire/) and processes (pool/).
"""

from __future__ import annotations

import os
import socket
from functools import partial
from typing import Any, ClassVar, Final, Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost

from twisted_rr.log import logger
from twisted_rr.net.turn import Turn
from twisted_rr.wire.buffer import without

READ: Final = 65536  # a larger buffer costs small reads most of a microsecond more
MORE: Final = 129024  # after a read that filled up; from 128 KiB on a buffer costs an mmap and a munmap
READS: Final = 3  # a doRead, while each one fills up
PIECES: Final = (
    32  # written in one go; the rest after the next poll, so that other descriptors get their turn
)
REST: Final = 1024  # reads of read_rest: a grandchild that goes on writing must not hold the reactor
BUFFER: Final = 425984  # bytes asked for a relay's socket buffers; the kernel may give less

GONE: Final = "closed by the worker"

log: Final = logger("net")


class RelayOwner(Protocol):
    """Who holds the descriptor. None of these is called after `RelayDescriptor.close`."""

    def relay_data(self, data: bytes) -> None:
        """Bytes from the worker, never empty."""

    def relay_output(self) -> Any:
        """The next bytes for the worker, or a list of parts of them to be written as one; empty when there are none."""

    def relay_lost(self, reason: str) -> None:
        """The relay is gone, all that came was given to `relay_data`; called once, the descriptor is closed."""


def relay_pair() -> tuple[socket.socket, socket.socket]:
    """A new AF_UNIX stream pair: the server's end (non-blocking) and the worker's (blocking), both CLOEXEC."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    widen(ours)
    widen(theirs)
    return ours, theirs


def widen(sock: socket.socket) -> None:
    """Ask for socket buffers that hold a few bodies, as far as the kernel allows."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER)


class RelayDescriptor:
    """A relay on the reactor. It reads from its making on; see `RelayOwner` for what the owner is told.

    :ivar unsent: once it is closed, how many of the last bytes of the owner's the worker has certainly not had. Of a
        socket only what the kernel did not take, of pipes also what lay in them. Not known where the owner gives
        lists of parts.
    """

    __slots__ = (
        "_fd",
        "_out_fd",
        "_owner",
        "_pending",
        "_reactor",
        "_reading",
        "_recv",
        "_send",
        "_send_parts",
        "_sock",
        "_turn",
        "_writer",
        "_writing",
        "closed",
        "unsent",
    )

    rr_direct: ClassVar[bool] = True  # reactor.py

    def __init__(
        self, sock: Any, reactor: Any, turn: Turn, owner: RelayOwner, pipes: tuple[int, int] | None = None
    ) -> None:
        """Take *sock*, or for ``sock=None`` the *pipes* (read fd, write fd); they are closed with the descriptor."""
        self.closed = False
        self.unsent = 0
        self._reactor = reactor
        self._turn = turn
        self._owner = owner
        self._sock = sock
        self._pending: Any = b""  # bytes, memoryview or a list of them: taken from the owner, not yet from us
        self._writing = False
        self._reading = True
        self._recv: Any
        self._send: Any
        self._send_parts: Any
        self._writer: Any = self
        if pipes is None:
            sock.setblocking(False)
            self._fd: int = sock.fileno()
            self._out_fd: int = self._fd
            self._recv = sock.recv
            self._send = sock.send
            self._send_parts = sock.sendmsg
        else:
            self._fd, self._out_fd = pipes
            for fd in pipes:
                os.set_blocking(fd, False)
            self._recv = partial(os.read, self._fd)
            self._send = partial(os.write, self._out_fd)
            self._send_parts = partial(os.writev, self._out_fd)
            self._writer = WriteSide(self)
        reactor.addReader(self)

    @classmethod
    def from_pipes(
        cls, read_fd: int, write_fd: int, reactor: Any, turn: Turn, owner: RelayOwner
    ) -> RelayDescriptor:
        """A relay over two one-way pipes; both fds now belong to it."""
        return cls(None, reactor, turn, owner, (read_fd, write_fd))

    # -- for the owner

    def wake(self) -> None:
        """There is output: it is pulled and sent before this turn ends."""
        # While we wait for the kernel, doWrite is the waker: it pulls until there is nothing left.
        if not self._writing and not self.closed:
            self._turn.add(self)

    def push(self) -> None:
        """There is output, one piece of it as a rule: that is sent now, what is left before this turn ends.

        For what nothing can be joined with. Nothing is told to the owner from within, whatever the kernel says.
        """
        if self._writing or self._pending or self.closed:
            return  # it is pulled by doWrite, or by flush
        data = self._owner.relay_output()
        try:
            sent: int = self._send(data)
        except OSError:
            sent = 0  # no room, or an error, which flush meets again
        if sent < len(data):
            self._pending = memoryview(data)[sent:]
            self._turn.add(self)

    def pause_reading(self) -> None:
        """Leave bytes from the worker in the kernel."""
        if self._reading and not self.closed:
            self._reading = False
            self._reactor.removeReader(self)

    def resume_reading(self) -> None:
        """Read on."""
        if not self._reading and not self.closed:
            self._reading = True
            self._reactor.addReader(self)

    def read_rest(self) -> bool:
        """Give the owner all that is there, paused or not; True when that was the end of it.

        For a worker that died: what it wrote before still counts. `relay_lost` is not called.
        """
        for _ in range(REST):
            if self.closed:
                return True
            try:
                data: bytes = self._recv(READ)
            except BlockingIOError:
                return False
            except OSError:
                return True
            if not data:
                return True
            self._owner.relay_data(data)
        return False

    def close(self) -> None:
        """Release the fds at once; what was not sent is dropped. Idempotent, and the owner hears nothing."""
        if self.closed:
            return
        self.closed = True
        if type(self._pending) is not list:
            self.unsent = len(self._pending)
        self._reactor.removeReader(self)
        if self._writing:
            self._reactor.removeWriter(self._writer)
            self._writing = False
        self._pending = b""
        if self._sock is not None:
            self._sock.close()
        else:
            self.unsent += _taken_back(self._out_fd)
            os.close(self._fd)
            os.close(self._out_fd)
        self._fd = self._out_fd = -1

    # -- for the turn and the reactor

    def flush(self) -> None:
        """Called at the turn's end after `wake`."""
        if self._writing or self.closed:
            return
        try:
            self._pump()
        except Exception:
            # What the owner holds would wait for ever: nothing wakes it again.
            log.failure("the owner of {relay!r} failed", relay=self)
            self._lose("failed while writing")

    def fileno(self) -> int:
        """The fd that is read."""
        return self._fd

    def out_fileno(self) -> int:
        """The fd that is written."""
        return self._out_fd

    def logPrefix(self) -> str:
        """For what goes wrong in the owner."""
        return "relay"

    def doRead(self) -> Any:
        """Read while reads fill up, at most `READS` times."""
        size = READ
        for _ in range(READS):
            if self.closed:
                return None
            try:
                data: bytes = self._recv(size)
            except BlockingIOError:
                return None
            except OSError as error:
                self._lose(f"read: {error.strerror}")
                return None
            if not data:
                self._lose(GONE)
                return None
            self._owner.relay_data(data)
            if len(data) < size or not self._reading:
                return None
            size = MORE
        return None

    def doWrite(self) -> Any:
        """The kernel takes bytes again."""
        if not self.closed:
            self._pump()
        return None

    def connectionLost(self, reason: Any) -> None:
        """The reactor saw a hang-up, stops, or caught what the owner raised."""
        if self.closed:
            return
        if reason.check(ConnectionDone, ConnectionLost):
            # A hang-up may be seen while bytes are left: reading was paused, or only writing was watched.
            self._lose_after_reading(GONE if reason.check(ConnectionDone) else "connection lost")
        else:
            self._lose(f"failed: {reason.getErrorMessage()}")

    def _pump(self) -> None:
        data: Any = self._pending
        for _ in range(PIECES):
            if not data:
                data = self._owner.relay_output()
                if not data or self.closed:
                    self._pending = b""
                    self._stop_writing()
                    return
            parts = type(data) is list
            try:
                sent: int = self._send_parts(data) if parts else self._send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._lose_after_reading(f"write: {error.strerror}")
                return
            if parts:
                data = without(data, sent)
            else:
                data = memoryview(data)[sent:] if sent < len(data) else b""
            if data:
                self._pending = data
                self._start_writing()
                return
        self._pending = b""
        self._start_writing()

    def _start_writing(self) -> None:
        if not self._writing:
            self._writing = True
            # Waker of everything the owner holds: doWrite.
            self._reactor.addWriter(self._writer)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            self._reactor.removeWriter(self._writer)

    def _lose_after_reading(self, reason: str) -> None:
        self.read_rest()
        self._lose(reason)

    def _lose(self, reason: str) -> None:
        if not self.closed:
            self.close()
            self._owner.relay_lost(reason)


def _taken_back(pipe: int) -> int:
    """How many bytes nobody has read from a *pipe* that is written here: they are read here, and nobody ever will."""
    count = 0
    try:
        again = os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0  # not on this system: they count as read
    try:
        while data := os.read(again, MORE):
            count += len(data)
    except OSError:
        return count  # it is empty, and we ourselves hold its other end
    finally:
        os.close(again)
    return count


class WriteSide:
    """The write fd of a pair of pipes, which the reactor needs as an object of its own."""

    __slots__ = ("_relay",)

    rr_direct: ClassVar[bool] = True

    def __init__(self, relay: RelayDescriptor) -> None:
        self._relay = relay

    def fileno(self) -> int:
        """The fd that is written."""
        return self._relay.out_fileno()

    def logPrefix(self) -> str:
        """The same as the relay's."""
        return self._relay.logPrefix()

    def doWrite(self) -> Any:
        """The kernel takes bytes again."""
        return self._relay.doWrite()

    def connectionLost(self, reason: Any) -> None:
        """The worker closed its end of this pipe, or the reactor stops."""
        self._relay.connectionLost(reason)
