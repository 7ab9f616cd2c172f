"""One HTTP question to a server on this machine, over its admin socket or its status address.

With the standard library's sockets alone: a probe runs every few seconds and must not cost more than it looks at
(http.client takes as long to import as everything else here together).
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import time
from typing import Any, NamedTuple

_CREDENTIALS = struct.Struct("3i")
_MOST = 16 << 20


class NobodyThereError(Exception):
    """Nothing listens at the address, or it may not be used."""


class NoAnswerError(Exception):
    """The connection ended, or the time was over, before the answer was complete."""


class Reply(NamedTuple):
    """An answer: its status, and its body read as JSON (None where it is none)."""

    status: int
    told: Any


class Connection:
    """A connection to *address*: a path, ``@name``, or host and port.

    :ivar pid: of the server, 0 where the kernel does not tell.
    """

    def __init__(self, address: str | tuple[str, int], timeout: float | None) -> None:
        self._timeout = timeout
        self._socket = _connected(address, timeout)
        self.pid = self._peer() if isinstance(address, str) else 0

    def _peer(self) -> int:
        packed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return int(_CREDENTIALS.unpack(packed)[0])

    def ask(self, method: str, target: str) -> Reply:
        """Ask, and wait for the whole answer; raises `NoAnswerError`."""
        length = "content-length: 0\r\n" if method == "POST" else ""
        head = f"{method} {target} HTTP/1.1\r\nhost: localhost\r\n{length}connection: close\r\n\r\n"
        try:
            self._socket.sendall(head.encode("latin-1"))
            return _read(self._received())
        except TimeoutError:
            raise NoAnswerError(f"no answer within {self._timeout:g} s") from None
        except OSError as error:
            raise NoAnswerError(f"the connection broke: {error.strerror or error}") from None
        finally:
            self._socket.close()

    def close(self) -> None:
        """Give it up unused."""
        self._socket.close()

    def _received(self) -> bytes:
        """Everything until the server closes, within the time for all of it."""
        end = None if self._timeout is None else time.monotonic() + self._timeout
        data = b""
        while True:
            if end is not None:
                self._socket.settimeout(max(0.001, end - time.monotonic()))
            piece = self._socket.recv(65536)
            if not piece:
                return data
            data += piece
            if len(data) > _MOST:
                raise NoAnswerError("the answer has no end")


def _connected(address: str | tuple[str, int], timeout: float | None) -> socket.socket:
    unix = isinstance(address, str)
    name: Any = "\0" + address[1:] if isinstance(address, str) and address.startswith("@") else address
    try:
        if not unix:
            return socket.create_connection(name, timeout)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(timeout)
            sock.connect(name)
        except BaseException:
            sock.close()
            raise
        return sock
    except OSError as error:
        raise NobodyThereError(error.strerror or str(error)) from None


def _read(data: bytes) -> Reply:
    head, separator, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if not separator or len(words) < 2 or not words[1].isdecimal():
        raise NoAnswerError("the server ended without an answer" if not data else "that is no HTTP answer")
    for line in lines[1:]:
        name, _, value = line.partition(":")
        if name.lower() == "content-length" and value.strip().isdecimal() and int(value) > len(body):
            raise NoAnswerError("the answer was cut")
    try:
        return Reply(int(words[1]), json.loads(body))
    except ValueError:
        return Reply(int(words[1]), None)


class Ending:
    """Waits for the end of a process that is not a child of ours."""

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.pidfd_open(pid) if pid > 0 else -1
        except OSError:  # gone already, or in another namespace
            self._fd = -1

    def wait(self, seconds: float) -> None:
        """Return when it has ended, or could not be watched, or after *seconds*."""
        if self._fd >= 0:
            poll = select.poll()
            poll.register(self._fd, select.POLLIN)
            poll.poll(seconds * 1000)
            os.close(self._fd)
            self._fd = -1
