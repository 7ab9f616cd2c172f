"""Where lines go: standard streams and files, which may stall, fill up or vanish.

A sink never raises into who logs and never blocks: what it cannot take it keeps, up to a limit, and
then drops and counts. It says so itself once it can be written to again.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from typing import Any, TypeAlias

from .escape import MAX_LINE

Values: TypeAlias = tuple[Any, ...]
Short: TypeAlias = Callable[[float, Values], bytes | None]
Long: TypeAlias = Callable[[float, Values], bytes]

MAX_PENDING = 1 << 20  # bytes kept for a sink that takes none
_LATER = frozenset((errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR, errno.ENOSPC, errno.EDQUOT))
_AT_ONCE = 1 << 14  # bytes of what waits, in one write
_GATHERED = 1 << 16  # bytes of lines that are written to a file at once
_MOST = 256  # lines that wait for the turn's end
_PIECE = 4096  # a pipe that polls writable takes this much without blocking, and in one piece (PIPE_BUF)


def _writable(fd: int, seconds: float) -> bool:
    """Whether *fd* takes something within *seconds*; poll, because select ends at descriptor 1023."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(seconds * 1000))


def _room(mode: int) -> int:
    return _GATHERED if stat.S_ISREG(mode) else _PIECE


class Sink:
    """Lines to a descriptor, with what waits for it.

    :ivar dropped: lines that were lost, since the start.
    :ivar note: gives the line that tells how many were lost, or nothing.
    :ivar stalled: called when lines begin to wait.
    :ivar turn: flushes what was added to it before the reactor waits again; without one `gather` writes at once.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.dropped = 0
        self.note: Callable[[int], bytes] = lambda count: b""
        self.stalled: Callable[[], None] = lambda: None
        self.turn: Any = None
        self._fd = -1
        # Others may write to a pipe too, and would come between what it does not take in one piece.
        self._room = _PIECE
        self._gathered: list[tuple[Short, Long, float, Values]] = []
        self._pending = bytearray()
        self._untold = 0

    @property
    def pending(self) -> bool:
        """Whether lines wait; `flush` tries again."""
        return bool(self._pending)

    def gather(self, short: Short, long: Long, moment: float, values: Values) -> None:
        """Take a line that ends with a newline, and write it with others of this turn.

        It is made then too, by *short*, or by *long* where that gives nothing: in a row they cost less. One that
        would be lost is not made.
        """
        if self.turn is None or self._pending or self._untold:
            if self.clogged():
                self.lose(1)
            else:
                self.write(short(moment, values) or long(moment, values))
            return
        if not self._gathered:
            self.turn.add(self)
        self._gathered.append((short, long, moment, values))
        if len(self._gathered) == _MOST:
            self._hand_over()

    def _hand_over(self) -> None:
        gathered, self._gathered = self._gathered, []
        lines: list[bytes] = []
        size = 0
        for short, long, moment, values in gathered:
            try:
                line = short(moment, values) or long(moment, values)
            except Exception:
                self.lose(1)
                continue
            size += len(line)
            if size > self._room and lines:
                self.write(b"".join(lines))
                lines = []
                size = len(line)
            lines.append(line)
        if lines:
            self.write(b"".join(lines))

    def write(self, line: bytes) -> None:
        """Take a line, or several that belong together; what was gathered goes before it."""
        if self._gathered:
            self._hand_over()
        if self._pending:
            self.flush()
        if self._untold and not self._pending:
            line = self.note(self._untold) + line
            self._untold = 0
        if self._pending:
            self._keep(line)
        else:
            self._give(line)

    def clogged(self) -> bool:
        """Whether a line would be lost, after one more try: then it need not be made."""
        if len(self._pending) + MAX_LINE > MAX_PENDING:
            self.flush()
        return len(self._pending) + MAX_LINE > MAX_PENDING

    def flush(self) -> None:
        """Try to write what waits. Called for every line while it is stalled, so only what may be taken is copied."""
        if self._gathered:
            self._hand_over()
        while self._pending:
            try:
                done = self._send(memoryview(self._pending[:_AT_ONCE]))
            except OSError as error:
                if error.errno in _LATER:
                    self.stalled()
                else:
                    self.lose(self._pending.count(b"\n") or 1)
                    self._pending.clear()
                return
            del self._pending[:done]

    def drain(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        """Give it at most *seconds* to take what waits; for the end of the process."""
        end = now() + seconds
        self.flush()
        while self._pending and now() < end:
            before = len(self._pending)
            writable = _writable(self._fd, max(0.0, end - now()))
            self.flush()
            if writable and len(self._pending) == before:
                return  # a full disk is always writable

    def _give(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += self._send(memoryview(data)[done:])
        except OSError as error:
            if error.errno in _LATER:
                self._pending += data[done:]
                self.stalled()
            else:
                self.lose(data[done:].count(b"\n") or 1)

    def _keep(self, line: bytes) -> None:
        if len(self._pending) + len(line) > MAX_PENDING:
            self.lose(line.count(b"\n") or 1)
        else:
            self._pending += line

    def lose(self, lines: int) -> None:
        """Count lines that are not written."""
        self.dropped += lines
        self._untold += lines

    def _send(self, data: memoryview) -> int:
        raise NotImplementedError

    def reopen(self) -> None:
        """Open again what stands behind the name; when that fails, the old one goes on."""

    def close(self) -> None:
        """Release it; what still waits is lost."""


class StreamSink(Sink):
    """A standard stream of this process, on a duplicate of its descriptor.

    The duplicate keeps lines out of whatever later gets number 1 or 2. O_NONBLOCK is never set on
    what other processes share (a shell's terminal): pipes and terminals are opened anew through
    /proc, sockets are sent to with MSG_DONTWAIT, and where neither works the descriptor is polled.
    """

    def __init__(self, name: str, fd: int) -> None:
        super().__init__(name)
        self._number = fd
        self._socket: socket.socket | None = None
        self._polled = False
        self.reopen()

    @property
    def is_terminal(self) -> bool:
        """Whether people read it at once."""
        return self._fd >= 0 and os.isatty(self._fd)

    def reopen(self) -> None:
        self.close()
        try:
            self._fd = fcntl.fcntl(self._number, fcntl.F_DUPFD_CLOEXEC, 3)
            mode = os.fstat(self._fd).st_mode
            self._room = _room(mode)
            if stat.S_ISSOCK(mode):
                self._socket = socket.socket(fileno=os.dup(self._fd))
            elif stat.S_ISFIFO(mode) or os.isatty(self._fd):
                self._open_anew()
        except OSError:
            pass  # a closed stream: every line is dropped and counted

    def _open_anew(self) -> None:
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            fresh = os.open(f"/proc/self/fd/{self._fd}", flags)
        except OSError:
            self._polled = True
        else:
            os.close(self._fd)
            self._fd = fresh

    def _send(self, data: memoryview) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._polled:
            if not _writable(self._fd, 0.0):
                raise BlockingIOError(errno.EAGAIN, "not writable")
            data = data[:_PIECE]
        return os.write(self._fd, data)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
        self._polled = False


class FileSink(Sink):
    """A file that is appended to; raises OSError when it cannot be opened at first."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = path
        self._fd = self._opened()

    def _opened(self) -> int:
        # O_NONBLOCK is for a path that turns out to be a FIFO; on a file it does nothing.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        fd = os.open(self._path, flags, 0o640)
        self._room = _room(os.fstat(fd).st_mode)
        return fd

    def _send(self, data: memoryview) -> int:
        return os.write(self._fd, data)

    def reopen(self) -> None:
        try:
            fresh = self._opened()
        except OSError:
            self.lose(1)
            return
        self.close()
        self._fd = fresh

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1
