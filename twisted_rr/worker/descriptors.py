"""Takes the relay out of reach of the application: first act of every worker.

What goes over the relay is not its subject (`wire`, `loop`, `threads`, `blocking`).
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import sys
import time
from collections.abc import Mapping
from typing import TextIO

from twisted_rr.errors import RRError

_LOWEST = 10
"""The relay's own descriptors start here: out of the way of programs that close or use 3 to 9 by number."""

_TRIES = 8
_FIRST_PAUSE = 0.005


class RelayUnavailable(RRError):
    """The relay named by RR_RELAY cannot be used: the fault of whoever started this process."""


class Relay:
    """Two descriptors of one relay; the same one twice when it is a socket.

    :ivar reader: frames of the server are read here.
    :ivar writer: frames of the worker are written here.
    """

    __slots__ = ("reader", "writer")

    def __init__(self, reader: int, writer: int) -> None:
        self.reader = reader
        self.writer = writer

    def set_blocking(self, blocking: bool) -> None:
        """Choose how both ends behave when there is nothing to read or no room to write."""
        os.set_blocking(self.reader, blocking)
        os.set_blocking(self.writer, blocking)

    def close(self) -> None:
        """Give the descriptors up; the server sees the end of the relay."""
        for fd in {self.reader, self.writer}:
            os.close(fd)


def take(environ: Mapping[str, str] | None = None) -> Relay:
    """Take over the relay that ``RR_RELAY`` names and make descriptors 0, 1 and 2 harmless.

    Afterwards 0 is /dev/null, and 1 and ``sys.stdout`` are the standard error: whatever the
    application, its children or a C extension do with them, no byte reaches the relay, and what
    they print reaches the server's log. ``pipes`` (the default) means descriptors 0 and 1;
    ``unix://path`` and ``tcp://host:port`` are connected to (protocol.md 2.1).
    Raises RelayUnavailable.
    """
    address = (os.environ if environ is None else environ).get("RR_RELAY") or "pipes"
    if address == "pipes":
        relay = _from_standard_descriptors()
    else:
        relay = _from_socket(_connect(address))
    protect()
    return relay


def _from_standard_descriptors() -> Relay:
    for fd in (0, 1):
        try:
            mode = os.fstat(fd).st_mode
        except OSError:
            raise RelayUnavailable(f"descriptor {fd} is closed, but the relay should be there")
        if not (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)):
            raise RelayUnavailable(
                "descriptors 0 and 1 are no relay; a worker is started by a server "
                "(twisted-rr serve, twistd rr, rr serve), not by hand"
            )
    reader = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, _LOWEST)
    if os.path.sameopenfile(0, 1):
        return Relay(reader, reader)
    return Relay(reader, fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, _LOWEST))


def _connect(address: str) -> socket.socket:
    """Connect with short retries: the server may be about to listen."""
    scheme, separator, rest = address.partition("://")
    if not separator or scheme not in ("unix", "tcp") or not rest:
        raise RelayUnavailable(f"RR_RELAY={address!r} is neither pipes, unix://path nor tcp://host:port")
    pause = _FIRST_PAUSE
    for left in range(_TRIES, 0, -1):
        try:
            return _connect_once(scheme, rest)
        except OSError as error:
            if left == 1:
                raise RelayUnavailable(f"cannot connect to the relay {address}: {error}")
        time.sleep(pause)
        pause *= 2
    raise AssertionError("the last try returns or raises")


def _connect_once(scheme: str, rest: str) -> socket.socket:
    if scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if not port.isdigit():
            raise RelayUnavailable(f"RR_RELAY=tcp://{rest} has no port")
        connection = socket.create_connection((host.strip("[]") or "127.0.0.1", int(port)), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(None)
        return connection
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(rest)
    except BaseException:
        connection.close()
        raise
    return connection


def _from_socket(connection: socket.socket) -> Relay:
    fd = fcntl.fcntl(connection.fileno(), fcntl.F_DUPFD_CLOEXEC, _LOWEST)
    connection.close()
    return Relay(fd, fd)


def protect() -> None:
    """Make descriptor 0 /dev/null and 1 the standard error, with streams in ``sys`` that fit."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        try:
            os.fstat(2)
        except OSError:
            os.dup2(null, 2)
        os.dup2(null, 0)
        os.dup2(2, 1)
    finally:
        if null > 2:
            os.close(null)
    sys.stdout = _line_buffered(1)
    sys.stderr = _line_buffered(2)


def fill() -> None:
    """Put /dev/null where the application has closed descriptor 0, 1 or 2.

    Else the next thing that is opened gets that number, which libuv, for one, does not survive.
    """
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one


def _line_buffered(fd: int) -> TextIO:
    """A stream whose printed lines are lines in the server's log.

    New, because Python's own was made for what the descriptor was before: one made for /dev/null
    believes that it can seek.
    """
    return open(fd, "w", buffering=1, errors="backslashreplace", closefd=False)
