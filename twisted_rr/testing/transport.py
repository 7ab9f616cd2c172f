"""A transport in memory with what net/'s transports have: `buffered`, `on_flush`, `close_lingering`.

It calls nobody on its own: a test says what the kernel takes and when the connection is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address


class StringTransport:
    """Records what a protocol writes and how it closes.

    :ivar closing: ``""``, ``"fin"`` (loseConnection), ``"linger"`` (close_lingering) or ``"abort"``; the last call wins.
    :ivar linger: the seconds given to close_lingering.
    :ivar reading: False between pauseProducing and resumeProducing.
    :ivar producer: what registerProducer was given.
    :ivar protocol: the protocol, when `FakePort` has made it.
    """

    bufferSize = 65536  # noqa: N815  Twisted's name

    def __init__(self, peer: Any = None, host: Any = None) -> None:
        self.peer = peer or IPv4Address("TCP", "192.168.1.1", 54321)
        self.host = host or IPv4Address("TCP", "10.0.0.1", 80)
        self.closing = ""
        self.linger = 0.0
        self.reading = True
        self.producer: Any = None
        self.protocol: Any = None
        self.streaming = False
        self.writes = 0
        self._sent = bytearray()
        self._queue = bytearray()
        self._room: int | None = None
        self._producer_paused = False
        self._callbacks: list[Callable[[], None]] = []

    # -- for the test

    def value(self) -> bytes:
        """What the kernel has taken."""
        return bytes(self._sent)

    def take(self) -> bytes:
        """The same, and forget it."""
        data = bytes(self._sent)
        self._sent.clear()
        return data

    def hold(self, room: int = 0) -> None:
        """The kernel takes *room* bytes more and then nothing, until `release`."""
        self._room = room

    def release(self, room: int | None = None) -> None:
        """The kernel takes *room* bytes more; None means everything from now on."""
        self._room = room
        self._drain()

    # -- writing

    def write(self, data: bytes) -> None:
        """ITransport's."""
        if not isinstance(data, bytes):
            raise TypeError("data must be bytes")
        if self.closing:
            return
        self.writes += 1
        self._queue += data
        self._drain()
        if len(self._queue) > self.bufferSize and self.producer is not None and self.streaming:
            if not self._producer_paused:
                self._producer_paused = True
                self.producer.pauseProducing()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """ITransport's."""
        self.write(b"".join(pieces))

    def _drain(self) -> None:
        count = len(self._queue) if self._room is None else min(self._room, len(self._queue))
        self._sent += self._queue[:count]
        del self._queue[:count]
        if self._room is not None:
            self._room -= count
        if self._queue:
            return
        if self.producer is not None and self._producer_paused:
            self._producer_paused = False
            self.producer.resumeProducing()
        if not self._queue:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                callback()

    def buffered(self) -> int:
        """Bytes the kernel has not taken."""
        return len(self._queue)

    def on_flush(self, callback: Callable[[], None]) -> None:
        """Call *callback* once when `buffered` is 0, at once if it is."""
        if self._queue:
            self._callbacks.append(callback)
        else:
            callback()

    # -- closing

    @property
    def disconnecting(self) -> bool:
        """True after any of the three closing calls."""
        return bool(self.closing)

    def loseConnection(self) -> None:
        """ITransport's."""
        self.closing = self.closing or "fin"

    def abortConnection(self) -> None:
        """ITCPTransport's: what was not taken is lost."""
        self.closing = "abort"
        self._queue.clear()
        self._callbacks.clear()

    def close_lingering(self, seconds: float) -> None:
        """As net/'s transports."""
        if not self.closing:
            self.closing = "linger"
            self.linger = seconds

    # -- producers, addresses

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """IConsumer's."""
        if self.producer is not None:
            raise RuntimeError("a producer is registered already")
        self.producer = producer
        self.streaming = streaming
        self._producer_paused = False

    def unregisterProducer(self) -> None:
        """IConsumer's."""
        self.producer = None

    def pauseProducing(self) -> None:
        """IPushProducer's: stop reading."""
        self.reading = False

    def resumeProducing(self) -> None:
        """IPushProducer's: read on."""
        self.reading = True

    def stopProducing(self) -> None:
        """IPushProducer's."""
        self.loseConnection()

    def getPeer(self) -> Any:
        """ITransport's."""
        return self.peer

    def getHost(self) -> Any:
        """ITransport's."""
        return self.host

    def setTcpNoDelay(self, enabled: bool) -> None:
        """ITCPTransport's; nothing to set here."""
