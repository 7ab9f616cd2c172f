"""The `rr` reactor: Twisted's epoll reactor, with output flushed around each poll and a short way to our descriptors.

It saves what the stock one spends a request: the log context around every event of our own descriptors
(marked by ``rr_direct``) and a timer for the flush of the turn. All else is the stock reactor's own
code, and where this one finds that it does not fit the installed Twisted, `install` takes the stock one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.epollreactor import EPOLLIN, EPollReactor
from twisted.internet.main import installReactor
from twisted.python import log as twisted_log

from twisted_rr.net.turn import Turn

# What this module uses of Twisted that is not public; RRReactor must not be installed without them.
NEEDED: Final = (
    "_poller",
    "_selectables",
    "_newTimedCalls",
    "_doReadOrWrite",
    "_disconnectSelectable",
    "timeout",
)


class RRReactor(EPollReactor):
    """An epoll reactor that flushes its `Turn` before and after each poll.

    Before, because timers, threads and Deferreds make output too; after, for what the events made.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rr_turn = Turn(self)
        self.rr_turn.driven = True

    def doPoll(self, timeout: float | None) -> None:
        """Wait at most *timeout* seconds for events, None for ever, and handle them."""
        turn = self.rr_turn
        if turn.pending():
            turn.run()
            timeout = self._shorter(timeout)
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(self._selectables))
        except InterruptedError:
            return
        dispatch(events, self._selectables, self._slow, self._failed)
        if turn.pending():
            turn.run()

    doIteration = doPoll

    def _shorter(self, timeout: float | None) -> float | None:
        """*timeout* was computed before the flush, which may have made timers or asked for another turn."""
        if self.rr_turn.pending():
            return 0
        if not self._newTimedCalls:
            return timeout
        next_call: float | None = self.timeout()
        if next_call is None or (timeout is not None and timeout < next_call):
            return timeout
        return next_call

    def _slow(self, selectable: Any, fd: int, event: int) -> None:
        twisted_log.callWithLogger(selectable, self._doReadOrWrite, selectable, fd, event)

    def _failed(self, selectable: Any, why: BaseException, raised: bool) -> None:
        """A doRead of ours returned or raised *why*; the log context is worth its price here."""
        twisted_log.callWithLogger(selectable, self._disconnect, selectable, why, raised)

    def _disconnect(self, selectable: Any, why: BaseException, raised: bool) -> None:
        if raised:
            twisted_log.err()
        self._disconnectSelectable(selectable, why, True)


def dispatch(
    events: list[tuple[int, int]],
    selectables: dict[int, Any],
    slow: Callable[[Any, int, int], None],
    failed: Callable[[Any, BaseException, bool], None],
) -> None:
    """Handle one poll's events: plain reads of our own descriptors at once, everything else by the slow way."""
    for fd, event in events:
        # A handler before this one may have removed it.
        selectable = selectables.get(fd)
        if selectable is None:
            continue
        if event != EPOLLIN or not getattr(selectable, "rr_direct", False):
            slow(selectable, fd, event)
            continue
        try:
            why = selectable.doRead()
        except BaseException as error:
            failed(selectable, error, True)
        else:
            if why:
                failed(selectable, why, False)


def install() -> None:
    """Install the `rr` reactor, or with a line in the log the stock epoll reactor if it does not work here.

    :raises ReactorAlreadyInstalledError: there is one.
    """
    reactor, trouble = _try()
    installReactor(reactor)
    if trouble:
        from twisted_rr.log import logger  # after the choice: nothing here may import the reactor

        logger("net").warn("the rr reactor is not used, the epoll reactor is: {reason}", reason=trouble)


def _try(make: Callable[[], EPollReactor] = RRReactor) -> tuple[EPollReactor, str]:
    """A reactor, and why it is the stock one (empty when it is ours)."""
    try:
        reactor = make()
        missing = [name for name in NEEDED if not hasattr(reactor, name)]
        trouble = f"Twisted has no {', '.join(missing)} any more" if missing else _probe(reactor)
    except Exception as error:
        trouble = f"its self-test raised {error!r}"
    if trouble:
        return EPollReactor(), trouble
    return reactor, ""


class Probe:
    """A pipe's read end that notes what it read; *direct* tells which way the reactor takes to it."""

    def __init__(self, fd: int, direct: bool) -> None:
        self._fd = fd
        self.rr_direct = direct
        self.read = b""

    def fileno(self) -> int:
        """The pipe's read end."""
        return self._fd

    def logPrefix(self) -> str:
        """Part of the descriptor's contract."""
        return "probe"

    def doRead(self) -> None:
        """One byte at a time, so that one event is one byte."""
        self.read += os.read(self._fd, 1)

    def connectionLost(self, reason: Any) -> None:
        """Part of the descriptor's contract."""
        self.read = b""


class FlushProbe:
    """Notes that it was flushed."""

    def __init__(self) -> None:
        self.flushed = 0

    def flush(self) -> None:
        """As the turn calls it."""
        self.flushed += 1


def _probe(reactor: Any) -> str:
    """Try reading both ways, and the flush; what did not work, in words."""
    for direct in (True, False):
        read_end, write_end = os.pipe()
        probe, flush = Probe(read_end, direct), FlushProbe()
        try:
            reactor.addReader(probe)
            os.write(write_end, b"xy")
            reactor.rr_turn.add(flush)
            reactor.iterate(0)
            reactor.removeReader(probe)
            reactor.iterate(0)
        finally:
            os.close(read_end)
            os.close(write_end)
        if probe.read != b"x" or flush.flushed != 1:
            return "a pipe was not read as expected" if probe.read != b"x" else "the turn was not flushed"
    return ""
