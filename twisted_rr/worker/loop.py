"""Reads and writes the relay from an asyncio loop, for either kind of end.

What comes and what goes is the end's and its owner's affair; the handshake is over before this begins.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Protocol

from twisted_rr.errors import FrameError
from twisted_rr.wire.buffer import without
from twisted_rr.worker.descriptors import Relay

_READ = 65536
_MORE = 129024
"""After a read that filled up. From 128 KiB on a buffer costs an mmap and a munmap, and below it small reads cost more."""

_READS = 3
"""Reads in a turn of the loop, while each one fills up."""


class RelayOwner(Protocol):
    """Who serves what comes over a relay."""

    def flushed(self) -> None:
        """All there was to write is in the kernel."""

    def lost(self, reason: str) -> None:
        """The relay is over; *reason* is empty when the server closed it in good order."""


class RelayLoop:
    """The relay's two descriptors on a loop; reading never pauses (mux.md 4).

    The frames that are made in one turn of the loop leave in one write: `schedule` flushes in the
    next turn, and after bytes came in, once the tasks that these started have had their first step.
    """

    __slots__ = ("_end", "_loop", "_owner", "_reader", "_rest", "_scheduled", "_writer", "over")

    def __init__(self, relay: Relay, loop: asyncio.AbstractEventLoop, owner: RelayOwner) -> None:
        relay.set_blocking(False)
        self._reader = relay.reader
        self._writer = relay.writer
        self._loop = loop
        self._owner = owner
        self._end: Any = None
        self._rest: list[
            Any
        ] = []  # what the kernel did not take; while there is any, the loop watches for room
        self._scheduled = False
        self.over = False

    def start(self, end: Any, rest: bytes) -> None:
        """Serve *end* from now on; *rest* was read before."""
        self._end = end
        self._loop.add_reader(self._reader, self._readable)
        if rest:
            self._received(rest)

    def schedule(self) -> None:
        """The end has something to take. Woken: `_flush` in the next turn, or `_writable` when there is room."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _readable(self) -> None:
        size = _READ
        for _ in range(_READS):
            try:
                data = os.read(self._reader, size)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._finished()
                return
            self._received(data)
            if len(data) < size or self.over:
                return
            size = _MORE

    def _received(self, data: bytes) -> None:
        # Until the flush below is queued, behind the first steps of new tasks, dirty() need not queue one.
        queued, self._scheduled = self._scheduled, True
        try:
            self._end.feed(data)
        except FrameError as error:
            self._lose(str(error))
            return
        if not queued:
            self._loop.call_soon(self._flush)

    def _finished(self) -> None:
        try:
            self._end.eof()
        except FrameError as error:
            self._lose(str(error))
        else:
            self._lose("")

    def _flush(self) -> None:
        self._scheduled = False
        if self._rest or self.over:
            return
        take = self._end.take_parts
        while True:
            parts = take()
            if not parts:
                break
            left = self._write(parts)
            if left:
                self._loop.add_writer(self._writer, self._writable)
                self._rest = left
            if left or self.over:
                return
        self._owner.flushed()

    def _write(self, parts: list[Any]) -> list[Any]:
        """Hand *parts* to the kernel; what it did not take."""
        try:
            if len(parts) == 1:
                count = os.write(self._writer, parts[0])
            else:
                count = os.writev(self._writer, parts)
        except BlockingIOError:
            return parts
        except OSError:
            self._lose("")
            return []
        return without(parts, count)

    def _writable(self) -> None:
        rest = self._write(self._rest)
        if not self.over:
            self._rest = rest
            if not rest:
                self._loop.remove_writer(self._writer)
                self._flush()

    def _lose(self, reason: str) -> None:
        if not self.over:
            self.close()
            self._owner.lost(reason)

    def close(self) -> None:
        """Neither read nor write any more."""
        self.over = True
        self._loop.remove_reader(self._reader)
        if self._rest:
            self._rest = []
            self._loop.remove_writer(self._writer)
