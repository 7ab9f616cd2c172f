"""HTTP sessions of a listener that answers from memory: what the status port and the admin socket do alike.

What is answered, how many connections there may be and who may have one is theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol

from twisted_rr.http1.session import Session


class SessionProtocol(Protocol):
    """Bytes between a transport and its session.

    :param begin: makes the session for a transport; None when it has ended the connection instead.
    """

    def __init__(self, begin: Callable[[Any], Session | None]) -> None:
        self._begin = begin
        self._session: Session | None = None

    def connectionMade(self) -> None:
        self._session = self._begin(self.transport)

    def dataReceived(self, data: bytes) -> None:
        if self._session is not None:
            self._session.data_received(data)

    def connectionLost(self, reason: Any = None) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.connection_lost()


async def settle(front: Any, clock: IReactorTime, seconds: float) -> None:
    """Wait until the last connection of *front*, which has some, is gone, and at most *seconds*.

    Wakers: a timer, and ``front.on_empty``.
    """
    settled: Deferred[None] = Deferred()
    timer = clock.callLater(seconds, settled.callback, None)
    front.on_empty = lambda: settled.callback(None) if not settled.called else None
    await settled
    front.on_empty = lambda: None
    if timer.active():
        timer.cancel()
